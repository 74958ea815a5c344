//! How the story is told: a line for each step, with a progress bar on a terminal.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Narrator {
    steps: u32,
    bar: ProgressBar,
    began: Instant,
    requests: u64,
}

impl Narrator {
    pub fn new() -> Self {
        Self {
            steps: 0,
            bar: ProgressBar::hidden(),
            began: Instant::now(),
            requests: 0,
        }
    }

    pub fn title(&self, text: &str) {
        self.say(&format!("\n{text}\n"));
    }

    /// Begins a step of so many requests.
    pub fn step(&mut self, text: &str, requests: u64) {
        self.steps += 1;
        self.say(&format!("{}. {text}", self.steps));
        // Hidden when standard error is no terminal.
        self.bar = ProgressBar::new(requests);
        if let Ok(style) = ProgressStyle::with_template("   {bar:30} {pos} of {len}") {
            self.bar.set_style(style);
        }
        self.began = Instant::now();
        self.requests = requests;
    }

    pub fn progress(&self) {
        self.bar.inc(1);
    }

    /// Ends the step, with what came of it.
    pub fn done(&mut self, outcome: &str) {
        self.bar.finish_and_clear();
        let took = self.began.elapsed().as_secs_f64() * 1_000.0;
        match self.requests {
            0 | 1 => self.say(&format!("   {outcome}")),
            requests => {
                let each = took / requests as f64;
                self.say(&format!("   {outcome}, {each:.1} ms each"));
            }
        }
    }

    /// The story goes to standard output; logs and progress go to standard error.
    #[allow(clippy::print_stdout)]
    pub fn say(&self, text: &str) {
        println!("{text}");
    }
}
