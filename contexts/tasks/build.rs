fn main() {
    // The files are embedded; a new one must be noticed too.
    println!("cargo:rerun-if-changed=../../schemas/tasks");
}
