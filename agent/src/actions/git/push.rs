//! What `git push --porcelain` says, and what it means for the branch.
//!
//! For the one reference that is pushed there is at most one line, `FLAG TAB FROM:TO TAB SUMMARY`. Where there is none,
//! the push ended before the server said what became of it.

use super::super::program::Ran;

/// What became of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The branch is at our commit.
    Done,
    /// The branch is not where it was fetched; certainly not pushed.
    Moved { words: String },
    /// Certainly not pushed.
    Refused { passing: bool, reason: String, words: String },
    /// Nobody knows.
    Unclear { words: String },
}

/// Reads Git's report.
pub(super) fn judge(ran: &Ran) -> Pushed {
    let (text, words) = (ran.text(), ran.said.clone());
    let line = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let flag = fields.next().filter(|flag| flag.chars().count() == 1)?;
        fields.next().filter(|pair| pair.starts_with("HEAD:"))?;
        Some((flag, fields.next()?))
    });
    match line {
        Some((" " | "*", _)) if ran.code == 0 => Pushed::Done,
        Some(("!", summary)) => rejected(summary, words),
        Some(_) => Pushed::Unclear { words },
        None if refused_at_the_door(&words) => {
            let first = words.lines().find(|line| line.starts_with("fatal:")).unwrap_or_default();
            Pushed::Refused { passing: false, reason: first.to_owned(), words }
        }
        None => Pushed::Unclear { words },
    }
}

fn rejected(summary: &str, words: String) -> Pushed {
    // The server compares once more under its own lock; these are its ways to say that somebody was faster.
    const MOVED: [&str; 7] = [
        "(fetch first)",
        "(non-fast-forward)",
        "(stale info)",
        "cannot lock ref",
        "failed to lock",
        "incorrect old value",
        "reference already exists",
    ];
    // Some servers say it only in the words beside.
    let raced = summary.contains("failed to update ref") && words.contains("but expected");
    if raced || MOVED.iter().any(|reason| summary.contains(reason)) {
        Pushed::Moved { words }
    } else if summary.starts_with("[rejected]") || summary.starts_with("[remote rejected]") {
        // "unpacker error": a full disk or a broken connection on the server's side, before anything was changed.
        let passing = summary.contains("unpacker error");
        Pushed::Refused { passing, reason: summary.to_owned(), words }
    } else {
        // "[remote failure]": the server did not say.
        Pushed::Unclear { words }
    }
}

/// What a server says before it takes anything.
fn refused_at_the_door(words: &str) -> bool {
    const REFUSALS: [&str; 6] = [
        "fatal: Authentication failed",
        "fatal: could not read Username",
        "fatal: could not read Password",
        "fatal: remote error: access denied",
        "fatal: remote error: service not enabled",
        "fatal: unable to access",
    ];
    let refusal = words.lines().find(|line| REFUSALS.iter().any(|words| line.starts_with(words)));
    // Of failed accesses only those that were answered: another one may be a connection that broke on the way.
    refusal.is_some_and(|line| {
        !line.starts_with("fatal: unable to access")
            || ["returned error: 401", "returned error: 403", "returned error: 404"]
                .iter()
                .any(|e| line.contains(e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32, answer: &str, words: &str) -> Pushed {
        judge(&Ran { code, answer: answer.as_bytes().to_vec(), said: words.into() })
    }

    fn kind(pushed: Pushed) -> &'static str {
        match pushed {
            Pushed::Done => "done",
            Pushed::Moved { .. } => "moved",
            Pushed::Refused { passing: true, .. } => "refused, passing",
            Pushed::Refused { passing: false, .. } => "refused",
            Pushed::Unclear { .. } => "unclear",
        }
    }

    #[test]
    fn each_report_is_read() {
        let to = |line: &str| format!("To /srv/x.git\n{line}\nDone\n");
        let at = "\tHEAD:refs/heads/main\t";
        let cases = [
            (0, to(&format!(" {at}1234567..89abcde")), "done"),
            (0, to(&format!("*{at}[new branch]")), "done"),
            (1, to(&format!(" {at}1234567..89abcde")), "unclear"),
            (0, to(&format!("={at}[up to date]")), "unclear"),
            (0, to(&format!("+{at}1234567...89abcde (forced update)")), "unclear"),
            (1, to(&format!("!{at}[rejected] (fetch first)")), "moved"),
            (1, to(&format!("!{at}[rejected] (non-fast-forward)")), "moved"),
            (
                1,
                to(&format!("!{at}[remote rejected] (cannot lock ref 'x': is at 1 but expected 2)")),
                "moved",
            ),
            (1, to(&format!("!{at}[remote rejected] (failed to update ref)")), "refused"),
            (1, to(&format!("!{at}[remote rejected] (pre-receive hook declined)")), "refused"),
            (1, to(&format!("!{at}[remote rejected] (unpacker error)")), "refused, passing"),
            (1, to(&format!("!{at}[remote failure] (remote failed to report status)")), "unclear"),
            (128, String::new(), "unclear"),
            (0, "To /srv/x.git\nDone\n".into(), "unclear"),
            (0, "*\tother:refs/heads/main\t[new branch]".into(), "unclear"),
        ];
        for (code, answer, expected) in cases {
            assert_eq!(kind(said(code, &answer, "")), expected, "{answer}");
        }
    }

    #[test]
    fn a_refusal_at_the_door_is_told_from_a_broken_connection() {
        let cases = [
            ("fatal: Authentication failed for 'https://x/'", "refused"),
            ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "refused"),
            ("fatal: unable to access 'https://x/': The requested URL returned error: 502", "unclear"),
            ("fatal: unable to access 'https://x/': Recv failure: Connection reset by peer", "unclear"),
            ("fatal: remote error: access denied or repository not exported: /x", "refused"),
            ("error: RPC failed; HTTP 403", "unclear"),
            ("fatal: the remote end hung up unexpectedly", "unclear"),
            ("remote: fatal: Authentication failed\nfatal: the remote end hung up unexpectedly", "unclear"),
        ];
        for (words, expected) in cases {
            assert_eq!(kind(said(128, "", words)), expected, "{words}");
        }
    }
}
