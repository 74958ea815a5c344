# What Annals needs from the system: the one list, sourced by ./run and ./test (bash).
#
#   install_system_needs    installs what is missing on Debian and its kin, as root or through sudo; elsewhere says
#                           exactly what to install, and fails

# command:Debian package:what for
system_needs=(
  "gcc:gcc:compiles the Kafka client"
  "g++:g++:compiles the Kafka client"
  "make:make:compiles the Kafka client"
  "pkg-config:pkg-config:finds OpenSSL"
  "mvn:maven:fetches Kafka and Postgres"
  "tar:tar:unpacks Postgres"
  "xz:xz-utils:unpacks Postgres"
  "setpriv:util-linux:ends the servers with their parent"
  "git:git:the sources"
  "curl:curl:the examples"
  "python3:python3:a foreign client of the registry, in the tests"
)
java_needed=17
rust_needed=1.95

install_system_needs() {
  local -a packages=() wanted=()
  local need command package purpose
  for need in "${system_needs[@]}"; do
    IFS=: read -r command package purpose <<<"$need"
    if ! command -v "$command" >/dev/null; then
      packages+=("$package")
      wanted+=("$command ($purpose)")
    fi
  done
  if ! has_java; then
    packages+=("$(debian_java)")
    wanted+=("a Java runtime, $java_needed or newer (runs Kafka)")
  fi
  if ! has_python_venv; then
    packages+=(python3-venv)
    wanted+=("Python's venv with pip (the foreign client)")
  fi
  if ! has_openssl; then
    packages+=(libssl-dev)
    wanted+=("OpenSSL's development files (the Kafka client's TLS)")
  fi
  find_cargo
  local install_rust=no
  if ! command -v cargo >/dev/null; then
    install_rust=yes
    wanted+=("Rust $rust_needed or newer, best through rustup (https://rustup.rs)")
  fi

  if [ ${#wanted[@]} -gt 0 ]; then
    echo "Missing on this machine:"
    printf '  %s\n' "${wanted[@]}"
    if ! command -v apt-get >/dev/null; then
      echo "Please install these, then start this again." >&2
      return 1
    fi
    if [ "$install_rust" = yes ]; then
      # Debian has rustup since 13; its own rustc is older than what is needed here.
      if apt-cache show rustup >/dev/null 2>&1; then
        packages+=(rustup)
      else
        echo "This Debian has no rustup package: install Rust as https://rustup.rs says, then start this again." >&2
        return 1
      fi
    fi
    install_packages "${packages[@]}" || return 1
    has_java || { echo "java is still older than $java_needed: set JAVA_HOME to a newer one." >&2; return 1; }
  fi
  has_toolchain
}

install_packages() {
  local -a apt=(env DEBIAN_FRONTEND=noninteractive apt-get)
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Please run this as root, then start this again:  apt-get install $*" >&2
      return 1
    fi
    apt=(sudo "${apt[@]}")
  fi
  echo "Installing: $*"
  "${apt[@]}" update -q && "${apt[@]}" install -y -q --no-install-recommends "$@"
}

has_openssl() {
  command -v pkg-config >/dev/null && pkg-config --exists openssl
}

has_python_venv() {
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null
}

has_java() {
  local java=java version
  [ -n "${JAVA_HOME:-}" ] && [ -x "$JAVA_HOME/bin/java" ] && java=$JAVA_HOME/bin/java
  # "17.0.15", "21", and "1.8.0_412" before Java 9
  version=$("$java" -version 2>&1 | sed -n '1s/[^"]*"\([0-9]*\).*/\1/p') || return 1
  [ "${version:-0}" -ge "$java_needed" ]
}

# The oldest that is new enough is the one tested most.
debian_java() {
  local version
  for version in 17 21 25; do
    apt-cache show "openjdk-$version-jre-headless" >/dev/null 2>&1 && break
  done
  echo "openjdk-$version-jre-headless"
}

# A fresh rustup is not on the path before the next login.
find_cargo() {
  if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  fi
}

# With rustup, rust-toolchain.toml names the toolchain, which is fetched here if need be.
has_toolchain() {
  if command -v rustup >/dev/null; then
    rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install || return 1
  fi
  local version
  version=$(cargo --version | cut -d' ' -f2) || return 1
  if [ "$(printf '%s\n' "$rust_needed" "$version" | sort -V | head -1)" != "$rust_needed" ]; then
    echo "cargo is $version, $rust_needed or newer is needed: install Rust through rustup (https://rustup.rs)." >&2
    return 1
  fi
}
