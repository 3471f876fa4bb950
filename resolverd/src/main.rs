//! The verbs of the command line.
//!
//! Words in, one call, words out. What a verb does is done by the daemon behind the control
//! socket, or by `daemon` where there is none to ask.

use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use mimalloc::MiMalloc;
use serde::Serialize;

use resolverd::config::{Config, ConfigError};
use resolverd::control::api::{ExplainRequest, FlushRequest, LOAD_OCTETS_MAX};
use resolverd::control::client::{Client, ClientError};
use resolverd::control::dump::{Dump, DumpRequest, LIMIT_DEFAULT, LoadRequest};
use resolverd::control::printer::Printer;
use resolverd::control::show;
use resolverd::daemon;

/// The daemon's memory is millions of small pieces that one thread takes and another gives back:
/// a miss costs a quarter less than with that of glibc, and a cached name some octets less.
#[global_allocator]
static MEMORY: MiMalloc = MiMalloc;

/// A DNS resolver whose cache hits are answered in the kernel.
#[derive(Debug, Parser)]
#[command(name = "resolverd", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the daemon in the foreground
    ///
    /// SIGHUP reads the configuration again, SIGTERM ends it; what is attached in the kernel
    /// goes on for the lease, so that a restart has no gap.
    #[command(after_help = "Example:\n  resolverd run --config /etc/resolverd/resolverd.toml")]
    Run {
        /// Laid over the built-in defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Checks a configuration, and says what it would do to this machine
    #[command(
        after_help = "Example:\n  resolverd check --config /etc/resolverd/resolverd.toml\n\n\
        Exit code: 0 when it is good; 1 when it is not, with FILE:LINE:COLUMN and what to write."
    )]
    Check {
        /// Laid over the built-in defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// JSON, for machines
        #[arg(long)]
        json: bool,
    },
    /// How the daemon is: kernel, listeners, upstreams, cache
    #[command(after_help = example("resolverd status --json | jq .kernel.available"))]
    Status {
        #[command(flatten)]
        reach: Reach,
    },
    /// Where the answer for a name is, and what the next query for it gets
    #[command(after_help = example("resolverd explain www.example.com AAAA"))]
    Explain {
        name: String,
        /// A, AAAA, MX, …, or TYPE65
        #[arg(value_name = "TYPE")]
        qtype: Option<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Forgets answers, in the daemon and in the kernel
    #[command(after_help = example(
        "resolverd flush www.example.com\n  resolverd flush --zone example.com\n  \
         resolverd flush --all"
    ))]
    Flush {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        reach: Reach,
    },
    /// Keys that are trusted by zone, since when and why, and names below which nothing is checked
    #[command(after_help = example("resolverd trust-anchors --json | jq '.zones[0].anchors'"))]
    TrustAnchors {
        #[command(flatten)]
        reach: Reach,
    },
    /// What the daemon's cache has, as text and back
    #[command(subcommand, after_help = example("resolverd cache dump --zone example.com"))]
    Cache(CacheVerb),
    /// Reads the configuration again, as SIGHUP does; a bad one is refused and changes nothing
    #[command(after_help = example("resolverd reload"))]
    Reload {
        #[command(flatten)]
        reach: Reach,
    },
    /// The part that answers in the kernel
    #[command(subcommand, after_help = example("resolverd kernel status"))]
    Kernel(Kernel),
    /// Prints completions for a shell
    #[command(after_help = "Example:\n  \
        resolverd completions bash > /etc/bash_completion.d/resolverd")]
    Completions { shell: Shell },
}

#[derive(Debug, Subcommand)]
enum CacheVerb {
    /// Prints answers of the cache; with `--json` as lines that `cache load` takes
    #[command(after_help = example(
        "resolverd cache dump --zone example.com\n  \
         resolverd cache dump --json --limit 1000000 > cache.jsonl"
    ))]
    Dump {
        /// Only names in this zone
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
        /// At most so many answers
        #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
        limit: u64,
        #[command(flatten)]
        reach: Reach,
    },
    /// Takes the answers of a dump into the cache
    ///
    /// They are used until they expire, unvalidated, and not in the place of good ones. Signed
    /// answers that were proven elsewhere, failures, and names of local zones are left out. The
    /// dump must be whole, and bear the MAC of this node.
    #[command(after_help = example("resolverd cache load cache.jsonl"))]
    Load {
        /// Lines of `cache dump --json`
        file: PathBuf,
        /// Take it although its MAC is not this node's
        #[arg(long)]
        foreign: bool,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Debug, Subcommand)]
enum Kernel {
    /// Makes the folder of pins, as root, for a daemon that runs with less
    ///
    /// Mounts a BPF file system at `kernel.pin-path`, where there is none. Needs no daemon.
    #[command(after_help = example(
        "resolverd kernel prepare --config /etc/resolverd/resolverd.toml"
    ))]
    Prepare {
        #[command(flatten)]
        reach: Reach,
    },
    /// Takes the program off the interfaces and removes its pins
    ///
    /// A daemon that runs goes on from user space; where none runs, what one left is removed.
    #[command(after_help = example("resolverd kernel detach"))]
    Detach {
        #[command(flatten)]
        reach: Reach,
    },
    /// Interfaces, modes, lease, and packets by reason
    #[command(after_help = example("resolverd kernel status"))]
    Status {
        #[command(flatten)]
        reach: Reach,
    },
}

/// What to flush: one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// One name, all its types
    name: Option<String>,
    /// A name and all below it
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

/// How to find the daemon, and how to talk to whoever asked.
#[derive(Debug, Args)]
struct Reach {
    /// The daemon's control socket
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The daemon's configuration, which names its socket
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// JSON, for machines
    #[arg(long)]
    json: bool,
}

/// How a verb ended badly.
#[derive(Debug)]
enum Failure {
    /// Refused, or failed.
    Failed(String),
    /// Refused, in JSON, which is wanted where good news go.
    FailedInJson(String),
    /// Nobody answers at the socket.
    Unreachable(String),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.verb) {
        Ok(text) => deliver(&mut io::stdout().lock(), &text),
        Err(Failure::Failed(text)) => complain(&text, FAILED),
        Err(Failure::FailedInJson(text)) => {
            deliver(&mut io::stdout().lock(), &text);
            ExitCode::from(FAILED)
        }
        Err(Failure::Unreachable(text)) => complain(&text, UNREACHABLE),
    }
}

/// Does what was asked; gives what to print.
fn run(verb: Verb) -> Result<String, Failure> {
    match verb {
        Verb::Run { config } => {
            daemon::run(config.as_deref()).map_err(failed)?;
            Ok(String::new())
        }
        Verb::Check { config, json } => check(config.as_deref(), json),
        Verb::Status { reach } => {
            let client = client(&reach)?;
            report(&reach, asked(client.status())?, show::status)
        }
        Verb::Explain { name, qtype, reach } => {
            let request = ExplainRequest { name, qtype };
            request.question().map_err(|e| Failure::Failed(e.to_string()))?;
            let client = client(&reach)?;
            report(&reach, asked(client.explain(&request))?, show::explain)
        }
        Verb::Flush { what: What { name, zone, all }, reach } => {
            let request = FlushRequest { name, zone, all };
            request.scope().map_err(|e| Failure::Failed(e.to_string()))?;
            let client = client(&reach)?;
            report(&reach, asked(client.flush(&request))?, show::flush)
        }
        Verb::TrustAnchors { reach } => {
            let client = client(&reach)?;
            report(&reach, asked(client.trust_anchors())?, show::trust_anchors)
        }
        Verb::Cache(CacheVerb::Dump { zone, limit, reach }) => {
            let request = DumpRequest { zone, limit: Some(limit) };
            request.scope().map_err(|e| Failure::Failed(e.to_string()))?;
            cache_dump(&reach, &request, &mut io::stdout().lock())
        }
        Verb::Cache(CacheVerb::Load { file, foreign, reach }) => {
            let dump = read_dump(&file)?;
            let client = client(&reach)?;
            let loaded = asked(client.cache_load(dump, LoadRequest { foreign }))?;
            report(&reach, loaded, show::load)
        }
        Verb::Reload { reach } => {
            let client = client(&reach)?;
            report(&reach, asked(client.reload())?, show::reload)
        }
        Verb::Kernel(Kernel::Status { reach }) => {
            let client = client(&reach)?;
            report(&reach, asked(client.kernel_status())?, show::kernel)
        }
        Verb::Kernel(Kernel::Detach { reach }) => {
            let detached = match asked(client(&reach)?.kernel_detach()) {
                // What a daemon left behind is there without it.
                Err(Failure::Unreachable(_)) => {
                    daemon::kernel_detach(&config(&reach)?).map_err(failed)?
                }
                result => result?,
            };
            report(&reach, detached, show::detach)
        }
        Verb::Kernel(Kernel::Prepare { reach }) => {
            let done = daemon::kernel_prepare(&config(&reach)?).map_err(failed)?;
            report(&reach, done, |lines| lines.iter().map(|line| format!("{line}\n")).collect())
        }
        Verb::Completions { shell } => {
            let mut octets = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "resolverd", &mut octets);
            Ok(String::from_utf8_lossy(&octets).into_owned())
        }
    }
}

/// Prints a dump as it comes.
fn cache_dump(
    reach: &Reach,
    request: &DumpRequest,
    out: &mut impl Write,
) -> Result<String, Failure> {
    let client = client(reach)?;
    let mut printer = Printer::new(reach.json);
    asked(client.cache_dump(request, |octets| printer.take(octets, out)))?;
    match (printer.failed, printer.end) {
        // A reader that has seen enough (`| head`) is no failure.
        (Some(error), _) if error.kind() == io::ErrorKind::BrokenPipe => Ok(String::new()),
        (Some(error), _) => Err(Failure::Failed(format!("can't write: {error}"))),
        (None, None) => Err(Failure::Failed(
            "the dump was cut short: the daemon ended, or it took longer than a minute".to_owned(),
        )),
        (None, Some(_)) if reach.json => Ok(String::new()),
        (None, Some(end)) => Ok(format!(
            "; {} answers{}\n",
            end.entries,
            if end.more { ", and there are more: see --limit" } else { "" }
        )),
    }
}

fn read_dump(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: String| Failure::Failed(format!("{}: {error}", file.display()));
    let octets = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?.len();
    if octets > LOAD_OCTETS_MAX as u64 {
        return Err(failed(format!(
            "it has {octets} octets, and {LOAD_OCTETS_MAX} are the most; dump it zone by zone"
        )));
    }
    let dump = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    // What is none is found before a daemon is looked for.
    Dump::read(&dump).map_err(|error| failed(error.to_string()))?;
    Ok(dump)
}

fn check(path: Option<&Path>, json: bool) -> Result<String, Failure> {
    let checked = Config::load(path)
        .and_then(|config| daemon::check_report(&config).map(|lines| (config.file, lines)));
    match (checked, json) {
        (Ok((file, lines)), false) => {
            Ok(lines.iter().fold(format!("{file}: good\n"), |text, line| text + line + "\n"))
        }
        (Ok((file, report)), true) => Ok(to_json(&Checked { file, report, ..Checked::default() })),
        (Err(error), false) => Err(Failure::Failed(error.to_string())),
        (Err(error), true) => Err(Failure::FailedInJson(to_json(&Checked::refused(error)))),
    }
}

/// `check --json`.
#[derive(Debug, Default, Serialize)]
struct Checked {
    file: String,
    /// Empty: the file is good.
    problems: Vec<Problem>,
    /// What it would do to this machine.
    report: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Problem {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: String,
}

impl Checked {
    fn refused(error: ConfigError) -> Self {
        match error {
            ConfigError::Unreadable { file, reason } => {
                let problem = Problem { line: None, column: None, message: reason };
                Self { file, problems: vec![problem], report: Vec::new() }
            }
            ConfigError::Refused(problems) => Self {
                file: problems.first().map(|problem| problem.file.clone()).unwrap_or_default(),
                problems: problems
                    .into_iter()
                    .map(|problem| Problem {
                        line: Some(problem.at.line),
                        column: Some(problem.at.column),
                        message: problem.text,
                    })
                    .collect(),
                report: Vec::new(),
            },
        }
    }
}

fn client(reach: &Reach) -> Result<Client, Failure> {
    match &reach.socket {
        Some(socket) => Ok(Client::new(socket)),
        None => Ok(Client::new(&config(reach)?.control.socket)),
    }
}

fn config(reach: &Reach) -> Result<Config, Failure> {
    Config::load(reach.config.as_deref()).map_err(|e| Failure::Failed(e.to_string()))
}

/// Waits for the daemon's word.
fn asked<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("can't start: {e}")))?;
    runtime.block_on(work).map_err(|error| match error {
        ClientError::Unreachable { .. } => Failure::Unreachable(error.to_string()),
        other => Failure::Failed(other.to_string()),
    })
}

fn report<T: Serialize>(
    reach: &Reach,
    report: T,
    show: impl Fn(&T) -> String,
) -> Result<String, Failure> {
    Ok(if reach.json { to_json(&report) } else { show(&report) })
}

fn to_json(report: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(report);
    text.expect("reports have texts for keys") + "\n"
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::Failed(format!("{error:#}"))
}

/// Prints. A reader that has seen enough (`| head`) is no failure.
fn deliver(out: &mut impl Write, text: &str) -> ExitCode {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => complain(&format!("can't write: {e}"), FAILED),
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    // A terminal that is gone can't be told.
    let _ = writeln!(io::stderr().lock(), "{text}");
    ExitCode::from(code)
}

fn example(words: &str) -> String {
    format!("Example:\n  {words}\n\n{EXIT_CODES}")
}

const FAILED: u8 = 1;
// 2 is clap's, for words that make no sense.
const UNREACHABLE: u8 = 3;
const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 the words make no sense, \
    3 no daemon answers.";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(words.split_whitespace())
    }

    #[test]
    fn the_verbs_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_help_with_an_example() {
        fn visit(command: &mut clap::Command, path: &str) {
            for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
                let path = format!("{path} {}", verb.get_name());
                let help = verb.render_long_help().to_string();
                assert!(help.contains("Example:\n  resolverd"), "{path}: {help}");
                let verbs: Vec<&str> = path.split(' ').skip(1).take(1).collect();
                assert!(help.contains(&format!("resolverd {}", verbs[0])), "{path}: {help}");
                visit(verb, &path);
            }
        }
        let mut command = Cli::command();
        command.build();
        visit(&mut command, "resolverd");
    }

    #[test]
    fn words_that_make_sense_are_taken() {
        for words in [
            "resolverd run",
            "resolverd run --config a.toml",
            "resolverd check --config a.toml --json",
            "resolverd status --json --socket /x",
            "resolverd explain www.example.com",
            "resolverd explain www.example.com AAAA --config a.toml",
            "resolverd flush www.example.com",
            "resolverd flush --zone example.com",
            "resolverd flush --all --json",
            "resolverd cache dump",
            "resolverd cache dump --zone example.com --limit 5 --json",
            "resolverd cache load dump.jsonl --foreign --socket /x",
            "resolverd reload",
            "resolverd kernel prepare --config a.toml",
            "resolverd kernel detach",
            "resolverd kernel status --json",
            "resolverd completions bash",
        ] {
            assert!(read(words).is_ok(), "{words}");
        }
    }

    #[test]
    fn words_that_make_no_sense_end_with_2() {
        for words in [
            "resolverd",
            "resolverd stats",
            "resolverd flush",
            "resolverd flush a --all",
            "resolverd flush --zone a --all",
            "resolverd explain",
            "resolverd status --socket /x --config a.toml",
            "resolverd cache",
            "resolverd cache load",
            "resolverd cache dump --limit many",
            "resolverd kernel",
            "resolverd completions cobol",
        ] {
            assert_eq!(read(words).unwrap_err().exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused_before_a_daemon_is_looked_for() {
        let verb = read("resolverd flush a..b --socket /nowhere").unwrap().verb;
        assert!(matches!(run(verb), Err(Failure::Failed(_))));
        let verb = read("resolverd explain a BOGUS --socket /nowhere").unwrap().verb;
        assert!(matches!(run(verb), Err(Failure::Failed(_))));
    }

    #[test]
    fn a_file_that_is_no_dump_is_refused_before_a_daemon_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dump");
        for text in [None, Some("not a dump\n")] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let words = format!("resolverd cache load {} --socket /nowhere", file.display());
            let Err(Failure::Failed(text)) = run(read(&words).unwrap().verb) else {
                panic!("taken")
            };
            assert!(text.contains("dump: "), "{text}");
        }
        let verb = read("resolverd cache dump --limit 0 --socket /nowhere").unwrap().verb;
        assert!(matches!(run(verb), Err(Failure::Failed(_))));
    }

    #[test]
    fn a_daemon_that_is_not_there_is_told_apart_from_a_refusal() {
        let verb = read("resolverd status --socket /nowhere/control.sock").unwrap().verb;
        let Err(Failure::Unreachable(text)) = run(verb) else { panic!("somebody answered") };
        assert!(text.contains("/nowhere/control.sock"), "{text}");
    }

    #[test]
    fn check_names_the_place_for_people_and_for_machines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.toml");
        std::fs::write(&path, "[server]\nedns-size = 1\n").unwrap();
        let Err(Failure::Failed(text)) = check(Some(&path), false) else { panic!("taken") };
        assert!(text.starts_with(&format!("{}:2:13: ", path.display())), "{text}");
        let Err(Failure::FailedInJson(text)) = check(Some(&path), true) else { panic!("taken") };
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json["problems"][0]["line"], &json["problems"][0]["column"]),
            (&2.into(), &13.into())
        );
        std::fs::write(&path, "").unwrap();
        let text = check(Some(&path), false).unwrap();
        assert!(text.starts_with(&format!("{}: good\n", path.display())), "{text}");
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(deliver(&mut Gone, "text"), ExitCode::SUCCESS);
    }

    #[test]
    fn completions_know_the_verbs() {
        let verb = read("resolverd completions bash").unwrap().verb;
        let text = run(verb).unwrap();
        assert!(text.contains("explain") && text.contains("prepare"));
    }
}
