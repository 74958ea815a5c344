//! How far something long has come: a bar on a terminal, now and then a line otherwise.

use std::{
    fmt::Write,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// On standard error, so that it does not mix with what was asked for.
pub(crate) struct Meter {
    what: String,
    bar: ProgressBar,
    last_line: Mutex<Instant>,
}

impl Meter {
    /// A goal of 0 is not known yet.
    pub(crate) fn new(what: impl Into<String>, goal: u64) -> Self {
        Self::on(ProgressDrawTarget::stderr(), what, goal)
    }

    fn on(target: ProgressDrawTarget, what: impl Into<String>, goal: u64) -> Self {
        let what = what.into();
        let bar = ProgressBar::with_draw_target(Some(goal), target);
        bar.set_style(style(goal));
        bar.set_message(what.clone());
        Self {
            what,
            bar,
            last_line: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn add(&self, done: u64) {
        self.bar.inc(done);
        self.line_now_and_then();
    }

    pub(crate) fn set(&self, done: u64, goal: u64) {
        if self.bar.length() != Some(goal) {
            self.bar.set_style(style(goal));
            self.bar.set_length(goal);
        }
        self.bar.set_position(done);
        self.line_now_and_then();
    }

    /// A line for people, whether there is a bar or not.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    pub(crate) fn done(self) {
        self.bar.finish_and_clear();
    }

    fn line_now_and_then(&self) {
        if !self.bar.is_hidden() {
            return;
        }
        let Ok(mut last) = self.last_line.lock() else {
            return;
        };
        if last.elapsed() > LINE_EVERY {
            *last = Instant::now();
            let goal = self.bar.length().unwrap_or(0);
            eprintln!("{}: {} of {goal}", self.what, self.bar.position());
        }
    }
}

/// Of no goal, a bar would be full.
fn style(goal: u64) -> ProgressStyle {
    let template = match goal {
        0 => "{msg}",
        _ => "{msg} [{bar:30}] {human_pos} of {human_len}, {rate}, {eta} to go",
    };
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|error| unreachable!("the template is sound: {error}"));
    let rate = |state: &ProgressState, line: &mut dyn Write| {
        let _ = write!(line, "{}/s", HumanCount(state.per_sec() as u64));
    };
    style.progress_chars("=> ").with_key("rate", rate)
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what was written to it.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<Vec<String>>>);

    impl Terminal {
        fn last(&self) -> String {
            let written = self.0.lock().unwrap();
            let mut lines = written.iter().rev().map(|it| it.trim());
            let last = lines.find(|line| !line.is_empty());
            last.unwrap_or_default().to_owned()
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.into());
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn meter(goal: u64) -> (Meter, Terminal) {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        (Meter::on(target, "verifying", goal), terminal)
    }

    #[test]
    fn a_bar_grows_with_what_is_done_at_whole_numbers_a_second() {
        let (meter, terminal) = meter(10_000);
        for (done, bar, said) in [
            (2_000, "verifying [======> ", "] 2,000 of 10,000, "),
            (3_000, "verifying [===============> ", "] 5,000 of 10,000, "),
        ] {
            meter.add(done);
            meter.bar.tick();
            let line = terminal.last();
            assert!(line.starts_with(bar) && line.contains(said), "{line}");
            let rate = line.split(", ").nth(1).unwrap();
            let number = rate.strip_suffix("/s").unwrap().replace(',', "");
            assert!(number.parse::<u64>().is_ok(), "{line}");
        }
        meter.done();
    }

    #[test]
    fn there_is_no_bar_before_the_goal_is_known() {
        let (meter, terminal) = meter(0);
        meter.bar.tick();
        assert_eq!(terminal.last(), "verifying");
        meter.set(1, 4);
        meter.bar.tick();
        let line = terminal.last();
        let bar = "verifying [=======> ";
        assert!(
            line.starts_with(bar) && line.contains("] 1 of 4, "),
            "{line}"
        );
    }
}
