//! `cargo xtask lab systemd`: the unit as it is shipped, under a real systemd.
//!
//! A script boots a container whose first process is systemd; what is done in there is
//! [`STEPS`], which says what it saw in lines of its own. This file ships, starts and judges.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::build::{self, Profile};
use crate::call;

#[derive(Args)]
pub struct Options {
    /// Debian's name of the systemd: bookworm has 252, trixie 257.
    #[arg(long, default_value = "bookworm")]
    suite: String,
    /// The script that boots one: `SCRIPT -s SUITE -f FILE:PLACE… -u UNIT -t SECONDS -- COMMAND`.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Seconds it may take, with all that is done in it.
    #[arg(long, default_value_t = 120)]
    seconds: u32,
}

pub fn run(options: &Options) -> Result<()> {
    let beside = call::root().join("../shared/lab/systemd-box.sh");
    let told = options.script.clone().or_else(|| env::var_os(SCRIPT).map(PathBuf::from));
    let script = told.or_else(|| beside.is_file().then_some(beside)).with_context(|| {
        format!("no script that boots a systemd: give --script, or set {SCRIPT}")
    })?;
    let said = boot(&script, options)?;
    print!("{said}");
    let wrong = judge(&said);
    for line in &wrong {
        println!("NO: {line}");
    }
    if !wrong.is_empty() {
        bail!("{} of {} things are not as they should be", wrong.len(), EXPECTED.len());
    }
    println!("all {} things are as they should be", EXPECTED.len());
    Ok(())
}

fn boot(script: &Path, options: &Options) -> Result<String> {
    let daemon = daemon()?;
    let ask = client()?;
    let dir = build::target_folder().join("lab");
    fs::create_dir_all(&dir)?;
    let (config, steps) = (dir.join("box.toml"), dir.join("box.sh"));
    fs::write(&config, CONFIG)?;
    fs::write(&steps, STEPS)?;
    let mut command = Command::new(script);
    command.args(["-s", &options.suite, "-t", &options.seconds.to_string()]);
    for (file, place) in [
        (&daemon, "/usr/bin/resolverd"),
        (&ask, "/usr/local/bin/ask"),
        (&config, "/etc/resolverd/resolverd.toml"),
        (&steps, "/usr/local/bin/box.sh"),
    ] {
        command.arg("-f").arg(format!("{}:{place}", file.display()));
    }
    command.arg("-u").arg(call::root().join("config/resolverd.service"));
    command.args(["--", "sh /usr/local/bin/box.sh"]).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("starting {}", script.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr))
}

/// The daemon of `RESOLVERD_BIN`, else the release build.
fn daemon() -> Result<PathBuf> {
    match env::var_os(DAEMON) {
        Some(path) => Ok(path.into()),
        None => build::build(Profile::Release),
    }
}

fn client() -> Result<PathBuf> {
    let mut cargo = build::cargo_with_bpf();
    call::run(cargo.args(["build", "--quiet", "--package", "resolverd-tests", "--bin", "ask"]))?;
    Ok(build::program(Profile::Debug).with_file_name("ask"))
}

/// What is not as it should be.
fn judge(said: &str) -> Vec<String> {
    let value = |name: &str| value_in(said, name);
    let wrong = |(name, wanted, what): &(&str, Wanted, &str)| {
        let good = match (value(name), wanted) {
            (None, _) => false,
            (Some(value), Wanted::Is(wanted)) => value == *wanted,
            (Some(found), Wanted::Same(other)) => !found.is_empty() && value(other) == Some(found),
            (Some(value), Wanted::Some) => value.parse::<u64>().is_ok_and(|n| n > 0),
        };
        (!good).then(|| format!("{what} ({name}={})", value(name).unwrap_or("nothing")))
    };
    EXPECTED.iter().filter_map(wrong).collect()
}

fn value_in<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = said.lines().rev();
    let found = lines
        .find_map(|line| line.trim().strip_prefix("BOX ")?.strip_prefix(name)?.strip_prefix('='));
    found.map(str::trim)
}

/// What a line of the box is held against.
enum Wanted {
    Is(&'static str),
    /// Not empty, and the same as another line.
    Same(&'static str),
    /// A number above zero.
    Some,
}

const EXPECTED: [(&str, Wanted, &str); 17] = [
    ("start", Wanted::Is("0"), "the unit starts"),
    ("first", Wanted::Is("yes"), "when start returned, the first query is answered"),
    ("program", Wanted::Some, "a program is attached"),
    ("hits", Wanted::Some, "the kernel answers"),
    ("reload", Wanted::Is("0"), "the unit reloads"),
    ("reload-program", Wanted::Same("program"), "a reload keeps the program"),
    ("reload-record", Wanted::Is("yes"), "a reload serves the changed record"),
    ("refused-active", Wanted::Is("active"), "a bad file is refused and the daemon goes on"),
    ("refused-place", Wanted::Is("yes"), "the journal has file:line:column of it"),
    ("kill-lost", Wanted::Is("0"), "no hit is lost over kill -9"),
    ("kill-restarts", Wanted::Is("1"), "systemd restarts it once"),
    ("kill-taken-over", Wanted::Is("yes"), "the pinned maps are taken over"),
    ("kill-first", Wanted::Is("kernel"), "the first answer after it is the kernel's"),
    ("stop", Wanted::Is("0"), "the unit stops"),
    ("stop-result", Wanted::Is("success"), "it ended with 0"),
    ("stop-pins", Wanted::Some, "a stop leaves pins"),
    ("stop-answers", Wanted::Is("yes"), "the kernel answers inside the lease after a stop"),
];

/// Names the script that boots a systemd.
const SCRIPT: &str = "RESOLVERD_SYSTEMD_BOX";
/// Names a daemon that is built already.
const DAEMON: &str = "RESOLVERD_BIN";

/// The lease outlives a restart on a busy machine.
const CONFIG: &str = r#"[kernel]
lease = "30s"
[resolve]
upstream-from = "none"
[[zone]]
name = "resolverd.test."
kind = "static"
records = [
    "@ 3600 IN SOA ns hostmaster 1 3600 900 604800 300",
    "www 300 IN A 192.0.2.80",
]
"#;

/// Runs in the box, as root, with dash. Waits are polled.
const STEPS: &str = r#"
U=resolverd.service
FILE=/etc/resolverd/resolverd.toml
ask() { /usr/local/bin/ask @127.0.0.1 "$1.resolverd.test" A 2>/dev/null; }
show() { systemctl show $U -p "$1" --value; }
# The packets that the kernel answered, and the program on lo: lines of `kernel status`.
status() { resolverd kernel status --config $FILE 2>/dev/null; }
hits() { status | awk '$1 == "hit" { n += $3 } END { print n + 0 }'; }
program() { status | awk '$1 == "lo" && $5 == "attached" { print $4 }'; }
# Looks until it is so; 20 s are enough for anything here.
wait_for() {
    tries=0
    while [ $tries -lt 200 ]; do
        "$@" && return 0
        tries=$((tries + 1))
        sleep 0.1
    done
    return 1
}

systemctl --version | head -n 1
systemctl start $U; echo "BOX start=$?"
ask www >/dev/null && echo "BOX first=yes" || echo "BOX first=no"
has_program() { [ -n "$(program)" ]; }
wait_for has_program; echo "BOX program=$(program)"
has_hits() { ask www >/dev/null; [ "$(hits)" -gt 0 ]; }
wait_for has_hits; echo "BOX hits=$(hits)"

sed -i 's/192.0.2.80/192.0.2.81/' $FILE
systemctl reload $U; echo "BOX reload=$?"
new_record() { ask www | grep -q 192.0.2.81; }
wait_for new_record && echo "BOX reload-record=yes"
echo "BOX reload-program=$(program)"

cp $FILE /root/good.toml
printf '[log]\nlevle = "info"\n' >>$FILE
systemctl reload $U
place="$FILE:$(grep -n levle $FILE | cut -d: -f1):1"
told() { journalctl -u $U --no-pager -o cat | grep -q "$place"; }
wait_for told && echo "BOX refused-place=yes"
echo "BOX refused-active=$(show ActiveState)"
cp /root/good.toml $FILE
systemctl reload $U

wait_for has_hits
stream() {
    lost=0
    while [ ! -e /root/enough ]; do
        ask www >/dev/null || lost=$((lost + 1))
        sleep 0.02
    done
    echo $lost >/root/lost
}
stream &
kill -9 "$(show MainPID)"
restarted() { [ "$(show NRestarts)" -ge 1 ] && [ "$(show ActiveState)" = active ]; }
wait_for restarted; echo "BOX kill-restarts=$(show NRestarts)"
touch /root/enough; wait
echo "BOX kill-lost=$(cat /root/lost)"
journalctl -u $U --no-pager -o cat | grep -q "taken over" && echo "BOX kill-taken-over=yes"
wait_for has_program
before=$(hits); ask www >/dev/null; after=$(hits)
[ "$after" -gt "$before" ] && echo "BOX kill-first=kernel" || echo "BOX kill-first=daemon"

systemctl stop $U; echo "BOX stop=$?"
echo "BOX stop-result=$(show Result)"
ask www >/dev/null && echo "BOX stop-answers=yes"
echo "BOX stop-pins=$(ls /run/resolverd/bpf | wc -l)"
journalctl -u $U --no-pager -o cat | tail -n 40
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_box_says_is_held_against_what_it_should_say() {
        let said: String = EXPECTED
            .iter()
            .map(|(name, wanted, _)| match wanted {
                Wanted::Is(value) => format!("BOX {name}={value}\n"),
                Wanted::Same(_) | Wanted::Some => format!("BOX {name}=7\n"),
            })
            .collect();
        assert_eq!(judge(&said), Vec::<String>::new());
        let other = said.replace("BOX reload-program=7", "BOX reload-program=8");
        assert_eq!(judge(&other), ["a reload keeps the program (reload-program=8)"]);
        let none = said.replace("BOX hits=7", "BOX hits=0");
        assert_eq!(judge(&none), ["the kernel answers (hits=0)"]);
        assert_eq!(judge("").len(), EXPECTED.len());
    }
}
