//! Proof that each house rule bites: what it must find, and what it must leave alone.

use super::checks::{self, FENCES, Fault};
use super::source::Source;

fn words(faults: Vec<Fault>) -> Vec<String> {
    faults.iter().map(Fault::to_string).collect()
}

/// Exactly one fault, on `line` of `file`, that says `word`.
fn assert_one(faults: Vec<Fault>, file: &str, line: usize, word: &str) {
    let found = words(faults);
    assert_eq!(found.len(), 1, "expected one fault about {word:?} in {file}: {found:?}");
    assert!(found[0].starts_with(&format!("{file}:{line}: ")) && found[0].contains(word), "{found:?}");
}

#[test]
fn each_word_behind_a_fence_is_found_and_only_in_code() {
    for fence in FENCES {
        let path = format!("{}some_file.rs", fence.folder);
        let check = |path: &str, text: &str| checks::fences(&Source::new(path, text));
        for word in fence.words {
            let bad = format!("//! Story.\nfn f() {{\n    {word};\n}}\n");
            assert_one(check(&path, &bad), &path, 3, word);
            let words_only = format!(
                "//! {word}\nfn f<'a>(_: &'a str) -> char {{ /* {word} */ f(\"\\\"{word}\"); 'x' }}\n"
            );
            assert_eq!(words(check(&path, &words_only)), [""; 0]);
            let tests = format!("//! Story.\n#[cfg(test)]\nmod tests {{\n    fn f() {{ {word} }}\n}}\n");
            assert_eq!(check(&path, &tests).len(), usize::from(fence.tests_too), "{word} in tests");
            let longer = format!("//! Story.\nfn f() {{ my_{word} }}\n");
            assert_eq!(words(check(&path, &longer)), [""; 0]);
            for (excepted, reason) in fence.except {
                assert!(!reason.is_empty(), "{excepted} needs a reason");
                let file =
                    if excepted.ends_with('/') { format!("{excepted}x.rs") } else { (*excepted).to_owned() };
                let about_word =
                    words(check(&file, &bad)).into_iter().filter(|found| found.contains(fence.remedy));
                assert_eq!(about_word.count(), 0, "{file} may say {word}");
            }
        }
    }
}

#[test]
fn code_after_and_around_tests_is_still_code() {
    let text = "//! S.\n#[cfg(test)]\nuse a::{b, c};\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nfn f(_: [u8; 2]) { { } }\n\
                fn g() { std::fs }\n";
    assert_one(checks::fences(&Source::new("rules/src/x.rs", text)), "rules/src/x.rs", 8, "std::fs");
    let in_tests = Source::new("rules/src/plan/tests.rs", "//! S.\nfn g() { std::fs }\n");
    assert_eq!(words(checks::fences(&in_tests)), [""; 0]);
    let not_in_tests = Source::new("rules/src/contests.rs", "//! S.\nfn g() { std::fs }\n");
    assert_eq!(checks::fences(&not_in_tests).len(), 1);
}

#[test]
fn strings_and_characters_of_every_kind_are_told_from_code() {
    let text = "//! S.\nfn g() { let _ = ('\"', '\\'', b'\"', 'é', r#\"a\" dbg! \"#, br\"dbg!\", \"\\\\\", r#type); }\n\
                /* outer /* dbg! */ dbg! */ fn h<'a>(_: &'a str) { dbg!(1) }\n";
    let source = Source::new("agent/src/x.rs", text);
    assert_eq!(source.code.len(), text.len());
    assert_one(checks::fences(&source), "agent/src/x.rs", 3, "dbg!");
}

#[test]
fn a_grouped_import_over_the_fence_is_found() {
    let check = |path: &str, text: &str| checks::grouped_imports(&Source::new(path, text));
    assert_one(check("rules/src/x.rs", "//! S.\nuse std::{fmt, fs::File};\n"), "rules/src/x.rs", 2, "{fs}");
    assert_eq!(words(check("rules/src/x.rs", "//! S.\nuse std::{fmt, num};\nfn fs() {}\n")), [""; 0]);
    assert_eq!(words(check("agent/src/x.rs", "//! S.\nuse std::{fmt, fs};\n")), [""; 0]);
}

#[test]
fn a_file_without_a_story_is_found() {
    assert_one(checks::story(&Source::new("a.rs", "use std::fmt;\n//! Late.\n")), "a.rs", 1, "//!");
    assert_eq!(words(checks::story(&Source::new("a.rs", "//! Story.\n"))), [""; 0]);
}

#[test]
fn an_allowed_lint_is_found() {
    let check = |text: &str| checks::allowed_lints(&Source::new("a.rs", text));
    assert_one(check("//! S.\n\n#[allow(dead_code)]\nfn f() {}\n"), "a.rs", 3, "expect");
    assert_one(check("//! S.\n#![allow(dead_code)]\n"), "a.rs", 2, "expect");
    assert_one(check("//! S.\n#[cfg_attr(test,\n  allow(dead_code))]\nfn f() {}\n"), "a.rs", 2, "expect");
    let fine =
        "//! `#[allow(x)]`\n#[expect(dead_code, reason = \"#[allow(x)]\")]\nfn allow(_: u8) { allow(1) }\n";
    assert_eq!(words(check(fine)), [""; 0]);
}

#[test]
fn a_long_file_is_found() {
    assert_one(checks::size(&Source::new("a.rs", &"//!\n".repeat(601))), "a.rs", 601, "601 lines");
    assert_eq!(words(checks::size(&Source::new("a.rs", &"//!\n".repeat(600)))), [""; 0]);
}

#[test]
fn a_stranger_at_the_top_is_found() {
    let names = ["agent", ".ci", "Makefile", "notes.txt"].map(str::to_owned);
    assert_one(checks::top_level(&names), "notes.txt", 1, "top level");
}

#[test]
fn a_dependency_that_acts_is_found() {
    let check = |manifest: &str| checks::dependencies("Cargo.toml", manifest);
    let fine = "[package]\nname = \"rules\"\n[dependencies]\nserde.workspace = true\n\"sha2\" = \"1\" # tokio = 1\n\
                [dev-dependencies]\ntokio = \"1\"\n[dev-dependencies.rand]\nversion = \"1\"\n";
    assert_eq!(words(check(fine)), [""; 0]);
    assert_one(check("[dependencies]\nserde = \"1\"\ntokio.workspace = true\n"), "Cargo.toml", 3, "tokio");
    assert_one(check("[dependencies.tokio]\nversion = \"1\"\n"), "Cargo.toml", 1, "tokio");
    assert_one(check("[build-dependencies]\ncc = \"1\"\n"), "Cargo.toml", 2, "cc");
    assert_one(
        check("[target.'cfg(unix)'.dependencies]\nnix = { version = \"1\" }\n"),
        "Cargo.toml",
        2,
        "nix",
    );
    assert_one(
        check("[dependencies]\nserde = { package = \"tokio\", version = \"1\" }\n"),
        "Cargo.toml",
        2,
        "own name",
    );
}

#[test]
fn a_dead_link_and_a_missing_command_are_found() {
    let exists = |path: &str| path == "docs/there.md" || path == "docs/../agent";
    let text = "[a](there.md#part) [b](https://x.y/z) [c](#here) [e](../agent)\n```\n[x](no.md)\n```\n\
                ![d](gone.png \"title\")\n";
    assert_one(checks::links("docs/page.md", text, exists), "docs/page.md", 5, "gone.png");
    assert_one(checks::commands("README.md", "make test"), "README.md", 1, "make demo");
}

#[test]
fn a_developers_folder_is_found() {
    let folder = concat!("/wo", "rk/");
    let hidden = concat!(".lib", "rary");
    for (text, word) in
        [(format!("# a\n# see `{folder}x`\n"), folder), (format!("\nin {hidden}/x\n"), hidden)]
    {
        assert_one(checks::leaks(&Source::new("deploy/x.yaml", &text)), "deploy/x.yaml", 2, word);
    }
    let fine = format!("self{hidden}; http://127.0.0.1:80{folder}");
    assert_eq!(words(checks::leaks(&Source::new("a.rs", &fine))), [""; 0]);
}
