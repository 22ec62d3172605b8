//! The house rules, as tests: what a reviewer would otherwise have to look for in every change.
//!
//! Each fault says file, line and what to do. `checks` holds the rules, most of them as rows of a table; `source`
//! reads the tree and tells code from comments, strings and tests; `samples` proves that every rule can bite.

mod checks;
mod samples;
mod source;

use checks::Fault;
use source::Source;

/// Fails with one line a fault, all of them at once.
fn expect_none(faults: Vec<Fault>) {
    let list: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(list.is_empty(), "\n{} house rules broken:\n{}\n", list.len(), list.join("\n"));
}

fn in_each_rust_file(check: impl Fn(&Source) -> Vec<Fault>) {
    let sources: Vec<Source> = source::tree().into_iter().filter(Source::is_rust).collect();
    assert!(sources.len() >= 4, "found {} Rust files: this test looks in the wrong place", sources.len());
    expect_none(sources.iter().flat_map(check).collect());
}

#[test]
fn the_deciding_half_depends_on_nothing_that_acts() {
    expect_none(checks::dependencies("rules/Cargo.toml", &source::read("rules/Cargo.toml")));
}

#[test]
fn code_stays_within_its_fences() {
    in_each_rust_file(checks::fences);
}

#[test]
fn no_import_reaches_over_a_fence() {
    in_each_rust_file(checks::grouped_imports);
}

#[test]
fn every_file_begins_with_its_story() {
    in_each_rust_file(checks::story);
}

#[test]
fn lints_are_expected_not_allowed() {
    in_each_rust_file(checks::allowed_lints);
}

#[test]
fn files_stay_readable_in_one_sitting() {
    in_each_rust_file(checks::size);
}

#[test]
fn the_top_level_stays_empty() {
    expect_none(checks::top_level(&source::top_level()));
}

#[test]
fn links_lead_somewhere_and_the_two_commands_are_shown() {
    expect_none(checks::commands("README.md", &source::read("README.md")));
    let pages = source::tree().into_iter().filter(|file| file.path.ends_with(".md"));
    expect_none(pages.flat_map(|page| checks::links(&page.path, &page.text, source::exists)).collect());
}

#[test]
fn nothing_names_a_place_that_a_user_does_not_have() {
    expect_none(source::tree().iter().flat_map(checks::leaks).collect());
}
