//! RFC 9520: failures are kept, so that they are not asked for again and again.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use lab::Ask;

use crate::scripted::Said;
use crate::world::world;

#[test]
fn section_3_1_a_question_is_not_asked_of_a_dead_server_without_end() -> Result<()> {
    let world = world!();
    let name = world.odd.say("never", |_| Vec::new());
    assert_eq!(world.ask(&Ask::new(&name, "A"))?.rcode(), 2);
    let asked = world.odd.asked("never").len();
    assert!((1..=8).contains(&asked), "{asked} times");
    Ok(())
}

#[test]
fn section_3_2_a_failure_is_kept_at_least_a_second_whatever_its_kind() -> Result<()> {
    let world = world!();
    type Script = fn() -> Vec<Said>;
    let kinds: [(&str, Script); 3] = [
        ("timeout", Vec::new),
        ("refused", || vec![Said::new().rcode(5)]),
        ("servfail", || vec![Said::new().rcode(2)]),
    ];
    for (label, script) in kinds {
        let name = world.odd.say(label, move |_| script());
        assert_eq!(world.ask(&Ask::new(&name, "A"))?.rcode(), 2, "{label}");
        let asked = world.odd.asked(label).len();
        for _ in 0..5 {
            assert_eq!(world.ask(&Ask::new(&name, "A"))?.rcode(), 2, "{label}");
        }
        assert_eq!(world.odd.asked(label).len(), asked, "{label}");
    }
    Ok(())
}

#[test]
fn section_3_2_a_failure_ends_and_its_name_is_asked_for_again() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("cache.failure-ttl = \"1s\"", "")?;
    let mut failing = 4;
    let name = world.odd.say("recovers", move |query| {
        failing -= i32::from(failing > 0);
        vec![if failing > 0 {
            Said::new().rcode(2)
        } else {
            Said::new().answer(&query.name, "A", 60, "192.0.2.1")
        }]
    });
    let mut last = world.ask_of(&daemon, &Ask::new(&name, "A"))?;
    for _ in 0..6 {
        if last.rcode() == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(1_200));
        last = world.ask_of(&daemon, &Ask::new(&name, "A"))?;
    }
    assert_eq!((last.rcode(), last.answer.len()), (0, 1));
    Ok(())
}

#[test]
fn section_3_4_a_failed_validation_is_kept_as_well() -> Result<()> {
    let world = world!();
    let daemon = world.daemon_of("", "")?;
    let upstream = || {
        let name = "resolverd_upstream_duration_seconds_count";
        daemon.metric(name, &[("upstream", "recursion")])
    };
    let ask = Ask::new("here.broken.test.", "A");
    assert_eq!(world.ask_of(&daemon, &ask)?.rcode(), 2);
    let asked = upstream()?;
    assert_eq!(world.ask_of(&daemon, &ask)?.rcode(), 2);
    assert!((upstream()? - asked).abs() < 0.5, "{asked}, then {}", upstream()?);
    Ok(())
}
