//! Run by GitHub Actions: the report in the job's summary, and an annotation that stands at the top of the run.

use super::Answer;
use super::markdown::markdown;
use super::text::{because, headline, subject};
use crate::cli::text::{safe, safe_lines};
use crate::cli::{Context, Exit};
use std::fs::OpenOptions;
use std::io::Write as _;

/// Tells GitHub, if it is there. That it cannot be told changes no answer.
pub(super) fn tell(answer: &Answer, context: &Context<'_>) {
    let (surroundings, console) = (context.surroundings, context.console);
    if let Some(path) = surroundings.variable("GITHUB_STEP_SUMMARY") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(markdown(answer).as_bytes())) {
            console.note(&format!("warning: cannot write the job's summary to {}: {error}", safe(path)));
        }
    }
    if surroundings.variable("GITHUB_ACTIONS") == Some("true") {
        console.note(&annotation(answer));
    }
}

fn annotation(answer: &Answer) -> String {
    let kind = match answer.exit {
        Exit::Done => "notice",
        Exit::Inconclusive => "warning",
        _ => "error",
    };
    let report = &answer.report;
    let missing = match report.missing.as_slice() {
        [] => String::new(),
        missing => format!("; missing: {}", missing.join("; ")),
    };
    let title = property(&format!("turnback: {}", headline(report)));
    let words = data(&safe_lines(&format!("{}: {}{missing}", subject(answer), because(report))));
    format!("::{kind} title={title}::{words}")
}

/// Escaped as the runner reads the words of a command: a line break would begin a command of its own.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::{data, property};

    #[test]
    fn foreign_text_is_no_command_of_the_runner() {
        assert_eq!(data("50%\n::set-env name=x::y\r"), "50%25%0A::set-env name=x::y%0D");
        assert_eq!(property("a: b, c"), "a%3A b%2C c");
    }
}
