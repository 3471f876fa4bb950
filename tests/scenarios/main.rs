//! Scenarios: servers say, a client asks, and this is expected. In virtual time, against the
//! machine of recursion alone; `README.md` has the language.
//!
//! One test plays all files, so that a failure names its file and line. What it does not try is
//! sockets, threads and the wire: those are the daemon's tests.

mod player;
mod records;
mod script;
mod servers;

use std::fs;
use std::path::Path;

use player::Player;

#[test]
fn every_scenario_goes_as_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "scn"))
        .collect();
    files.sort();
    let only = std::env::var("SCENARIO").ok();
    let mut wrong = Vec::new();
    let mut played = 0;
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        match script::parse(&text) {
            Ok(scenes) => {
                for scene in scenes {
                    played += 1;
                    let title = scene.title.clone();
                    if let Err((line, why)) = Player::new().play(&scene) {
                        wrong.push(format!("{name}:{line}: {title}\n    {why}"));
                    }
                }
            }
            Err((line, why)) => wrong.push(format!("{name}:{line}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(only.is_some() || played >= SCENES_MIN, "only {played} scenes were found");
}

/// So that a scene that is no longer found is missed.
const SCENES_MIN: usize = 120;
