//! How far something long has come: a bar on a terminal, now and then a line otherwise.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// On standard error, so that it does not mix with what was asked for.
pub(crate) struct Meter {
    what: String,
    bar: ProgressBar,
    last_line: Mutex<Instant>,
}

impl Meter {
    pub(crate) fn new(what: impl Into<String>, goal: u64) -> Self {
        let what = what.into();
        let bar = ProgressBar::new(goal);
        let style = "{msg} [{bar:30}] {human_pos} of {human_len}, {per_sec}, {eta} to go";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
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
        self.bar.set_length(goal);
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

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
