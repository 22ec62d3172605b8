//! The words: what people read, as they read it.

use super::world::{BAD, Load, WELL, World, at, impatient, report, rules};
use rules::decision::AutonomyLevel;
use rules::deployment::ReportState;
use rules::report::{postmortem, why_card};
use rules::watch::{Input, NoticeKind};

fn notice(world: &World, kind: NoticeKind) -> String {
    let found = world.notices.iter().find(|(_, notice)| notice.kind == kind);
    let (_, notice) = found.unwrap_or_else(|| panic!("{:#?}", world.titles()));
    format!("{}\n{}", notice.title, notice.text)
}

#[test]
fn the_why_card_of_a_bad_release() {
    let mut world = World::new(impatient(AutonomyLevel::Observe), WELL, BAD, 20.0, 1);
    world.run_to(120);
    insta::assert_snapshot!(why_card(&world.watch, world.now));
}

#[test]
fn the_why_card_of_an_inconclusive_one_says_what_is_missing() {
    let mut world = World::new(impatient(AutonomyLevel::Observe), WELL, WELL, 0.5, 2);
    world.run_to(600);
    let card = why_card(&world.watch, world.now).to_string();
    assert!(card.contains("more requests"), "{card}");
    insta::assert_snapshot!(card);
}

#[test]
fn the_why_card_of_a_blind_one() {
    let change = |world: &mut World| world.outages.push((at(60), at(9_999)));
    let mut world = World::with(impatient(AutonomyLevel::Auto), WELL, WELL, 20.0, 3, change);
    world.run_to(400);
    insta::assert_snapshot!(format!(
        "{}---\n{}",
        notice(&world, NoticeKind::Blind),
        why_card(&world.watch, world.now)
    ));
}

#[test]
fn the_plan_that_waits_for_an_approval() {
    let mut world = World::new(impatient(AutonomyLevel::Approve), WELL, BAD, 20.0, 4);
    world.run_to(200);
    insta::assert_snapshot!(notice(&world, NoticeKind::ApprovalNeeded));
}

#[test]
fn the_postmortem_of_a_rollback_keeps_foreign_words_inert() {
    let mut world = World::new(rules(AutonomyLevel::Auto), WELL, Load { slow: 1.0, ..WELL }, 20.0, 5);
    world.run_to(60);
    world.pull_kill_switch();
    let mut smoke = report("smoke_test_failed", ReportState::Firing, 60);
    smoke.summary = "<script>alert(1)</script> [x](javascript:1) ![i](http://e/) `rm` | **b** # h\n# Title\u{202e}\u{0}@all".into();
    world.tell(Input::Reported(smoke));
    world.run_to(100);
    world.release_kill_switch();
    world.run_to(3_700);
    let text = postmortem(&world.watch, world.now);
    for inert in ["<script>", " [x](javascript", " ![i]", "\n# Title", "\u{202e}", "\u{0}", "**b**"] {
        assert!(!text.contains(inert), "{inert:?} in\n{text}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_why_card_is_code_even_behind_a_list_of_guards() {
    let mut world = World::new(impatient(AutonomyLevel::Auto), WELL, BAD, 20.0, 6);
    world.pull_kill_switch();
    world.run_to(200);
    let text = postmortem(&world.watch, world.now);
    let card = text.lines().position(|line| line.starts_with("    checkout v2")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(text.contains("- held by: "), "{text}");
    assert!(lines[card - 1].is_empty() && !lines[card - 2].starts_with("- "), "{text}");
}
