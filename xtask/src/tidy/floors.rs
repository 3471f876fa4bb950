//! Floors: a room names lower floors only, and rooms of one floor never meet.
//!
//! `docs/STYLE.md` shows the same table to people; a rule here holds the two together.

use super::source::PathSeen;
use super::{Finding, Tree};

/// Rooms by floor. Below all of them is `resolverd-common`, a crate of its own.
const FLOORS: &[(u32, &[&str])] = &[
    (4, &["main", "daemon"]),
    (3, &["server", "control"]),
    (2, &["pipeline"]),
    (1, &["kernel", "cache", "policy", "resolver", "certificates", "quorum", "analytics", "tap"]),
    (0, &["dns", "config", "metrics", "clock", "log"]),
];

/// Meetings on one floor that are meant: `main` starts the daemon, and a configuration
/// speaks of names and record types.
const MEETINGS: &[(&str, &str)] = &[("main", "daemon"), ("config", "dns")];

/// No room names a room of its own floor or of a higher one.
pub fn floors(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let Some(module) = module_path(&source.path) else { continue };
        let Some(room) = module.first() else { continue };
        let Some(floor) = floor_of(room) else {
            let text = format!("room `{room}` has no floor: give it one in docs/STYLE.md and here");
            findings.push(Finding::at(&source.path, 1, text));
            continue;
        };
        for path in source.paths() {
            let Some(named) = room_named(&path, module.len()) else { continue };
            let Some(named_floor) = floor_of(named) else { continue };
            let meant = MEETINGS.contains(&(room, named));
            if named == *room || named_floor < floor || meant {
                continue;
            }
            let why = match named_floor == floor {
                true => "rooms of one floor never meet",
                false => "a room names lower floors only",
            };
            let text =
                format!("`{room}` (floor {floor}) names `{named}` (floor {named_floor}): {why}");
            findings.push(Finding::at(&source.path, path.line, text));
        }
    }
    findings
}

/// The table that people read is the one that is held.
pub fn floors_as_documented(tree: &Tree) -> Vec<Finding> {
    let Some(style) = tree.document(STYLE) else {
        return vec![Finding::at(STYLE, 1, "is missing, and with it the table of floors".into())];
    };
    let shown = table_of(style);
    let held = FLOORS.iter().flat_map(|(floor, rooms)| rooms.iter().map(|room| (*floor, *room)));
    let held: Vec<_> = held.collect();
    let here_only = held.iter().filter(|pair| !shown.contains(pair));
    let there_only = shown.iter().filter(|pair| !held.contains(pair));
    let here_only = here_only.map(|(floor, room)| format!("floor {floor} lacks `{room}`"));
    let there_only =
        there_only.map(|(floor, room)| format!("nobody put `{room}` on floor {floor}"));
    here_only.chain(there_only).map(|text| Finding::at(STYLE, 1, text)).collect()
}

/// The path of a file's module below the crate; none for files that are no room.
fn module_path(path: &str) -> Option<Vec<&str>> {
    let below = path.strip_prefix("resolverd/src/")?.strip_suffix(".rs")?;
    let mut module: Vec<_> = below.split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    // lib.rs is the map of the house, no room of it.
    (module != ["lib"]).then_some(module)
}

fn floor_of(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

/// The room that a path leads to, if it leaves through the crate's root.
fn room_named<'a>(path: &PathSeen<'a>, module_depth: usize) -> Option<&'a str> {
    let supers = path.segments.iter().take_while(|segment| **segment == "super").count();
    match path.segments[0] {
        // The program sees the house from outside.
        "crate" | "resolverd" => path.segments.get(1).copied(),
        "super" if supers == module_depth + path.depth => path.segments.get(supers).copied(),
        _ => None,
    }
}

/// Floor and room as the table in the style guide has them.
fn table_of(style: &str) -> Vec<(u32, &str)> {
    let after = style.split_once("**Floors.**").map_or("", |(_, after)| after);
    let block = after.split("```").nth(1).unwrap_or_default();
    let block = block.strip_prefix("text").unwrap_or(block);
    let block = block.split_once("below all").map_or(block, |(table, _)| table);
    let mut floor = None;
    let mut table = Vec::new();
    for word in block.split_whitespace().filter(|word| *word != "·") {
        match (word.parse(), floor) {
            (Ok(number), _) => floor = Some(number),
            (Err(_), Some(floor)) => table.push((floor, word)),
            (Err(_), None) => {}
        }
    }
    table
}

const STYLE: &str = "docs/STYLE.md";

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let tree = Tree { sources: vec![Source::new(path, text)], ..Tree::default() };
        floors(&tree).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_higher_floor_is_not_named() {
        let findings = found("resolverd/src/cache/store.rs", "use crate::server::Listener;");
        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("`cache` (floor 1) names `server` (floor 3)"));
    }

    #[test]
    fn rooms_of_one_floor_do_not_meet_however_it_is_spelled() {
        for text in [
            "use crate::resolver::Upstream;",
            "use crate::{dns::Name, resolver::{machine, Upstream}};",
            "fn f() -> crate::resolver::Upstream { x }",
            "use super::super::resolver::Upstream;",
            "mod inner { use super::super::super::resolver::Upstream; }",
            "macro_rules! m { () => { $crate::resolver::f() } }",
            "#[cfg(test)]\nmod tests { use crate::resolver::Upstream; }",
        ] {
            assert!(!found("resolverd/src/cache/store.rs", text).is_empty(), "{text}");
        }
        assert_eq!(found("resolverd/src/cache/mod.rs", "use super::policy::Acl;").len(), 1);
        assert_eq!(found("resolverd/src/pipeline.rs", "use super::server::Door;").len(), 1);
        assert_eq!(found("resolverd/src/clock.rs", "use crate::log::Site;").len(), 1);
    }

    #[test]
    fn lower_floors_the_own_room_and_meant_meetings_are_named_freely() {
        for (path, text) in [
            ("resolverd/src/cache/store.rs", "use crate::{dns::Name, cache::Entry, Error};"),
            ("resolverd/src/cache/store.rs", "use super::freshness; use super::super::dns;"),
            (
                "resolverd/src/cache/store.rs",
                "// crate::server is above\nlet x = \"crate::server\";",
            ),
            ("resolverd/src/pipeline.rs", "use crate::{cache, policy, resolver};"),
            ("resolverd/src/config/spec.rs", "use crate::dns::Name;"),
            ("resolverd/src/main.rs", "use resolverd::daemon; use resolverd::server;"),
            ("resolverd/src/lib.rs", "pub use crate::server::Listener; pub mod cache;"),
            ("tests/daemon/main.rs", "use crate::server::x;"),
        ] {
            assert_eq!(found(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn a_room_nobody_knows_is_found() {
        assert!(found("resolverd/src/util.rs", "")[0].contains("no floor"));
        assert!(found("resolverd/src/helpers/mod.rs", "")[0].contains("no floor"));
    }

    #[test]
    fn a_table_that_drifts_from_its_document_is_found() {
        let table = "4  main · daemon   3  server · control   2  pipeline\n\
                     1  kernel · cache · policy · resolver · certificates · quorum \
                     · analytics · tap\n\
                     0  dns · config · metrics · clock · log       below all: resolverd-common";
        let style = |table: &str| format!("**Floors.** Words.\n\n```text\n{table}\n```\nmore 1 x");
        let findings = |text: String| {
            let documents = vec![(STYLE.to_owned(), text)];
            floors_as_documented(&Tree { documents, ..Tree::default() }).len()
        };
        assert_eq!(findings(style(table)), 0);
        assert_eq!(findings(style(&table.replace("· log", ""))), 1);
        assert_eq!(findings(style(&table.replace("2  pipeline", "2  pipeline · attic"))), 1);
        assert_eq!(floors_as_documented(&Tree::default()).len(), 1);
    }
}
