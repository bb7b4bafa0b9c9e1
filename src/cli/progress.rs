//! How far a long subcommand is: a bar on a terminal, a line every few seconds elsewhere. On stderr, so that stdout is the result.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    told_at: Instant,
    doing: &'static str,
    what: &'static str,
}

impl Progress {
    /// `doing` something with so many of `what`.
    pub(super) fn new(doing: &'static str, what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let template = format!("{doing} {{wide_bar}} {{human_pos}}/{{human_len}} {what}, {{eta}} left");
            let style = ProgressStyle::with_template(&template);
            style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
        });
        Self { bar, told_at: Instant::now(), doing, what }
    }

    pub(super) fn tell(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if self.told_at.elapsed() >= PAUSE {
            self.told_at = Instant::now();
            eprintln!("{}: {done} of {total} {}", self.doing, self.what);
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
