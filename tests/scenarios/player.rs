//! Plays a scene: the machine on one side, the servers on the other, and a clock that jumps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use resolverd::clock::BootTime;
use resolverd::dns::{Ede, Name};
use resolverd::resolver::iterate::machine::{Ask, Input, Machine, Output, Purpose};
use resolverd::resolver::iterate::{Options, Stub, World};
use resolverd::resolver::machine::Transport;
use resolverd::resolver::{Fetch, Flushed, Reply};

use crate::records::{show, show_type};
use crate::script::{Expect, Scene, Step};
use crate::servers::{Said, Server, Zone, reply};

pub struct Player {
    world: World,
    options: Options,
    now: BootTime,
    zones: Vec<Zone>,
    servers: Vec<Server>,
    said: Vec<Said>,
    seed: u64,
}

/// How a question went.
struct Went {
    result: Result<Reply, Ede>,
    asked: Vec<String>,
    took: Duration,
    primes: bool,
}

impl Player {
    pub fn new() -> Self {
        let options = Options {
            hints: Vec::new(),
            prime: false,
            minimise: true,
            scramble: true,
            harden_glue: true,
            ipv4: true,
            ipv6: true,
            allow_server: vec!["10.0.0.0/8".parse::<IpNet>().unwrap(), "fd00::/8".parse().unwrap()],
            stubs: Vec::new(),
            forwarded: Vec::new(),
            port: 53,
            timeout: Duration::from_secs(4),
            failure_ttl: Duration::from_secs(5),
        };
        Self {
            world: World::new(4 << 20),
            options,
            now: BootTime(1_000_000_000_000),
            zones: Vec::new(),
            servers: Vec::new(),
            said: Vec::new(),
            seed: 1,
        }
    }

    pub fn play(mut self, scene: &Scene) -> Result<(), (usize, String)> {
        for (line, step) in &scene.steps {
            self.step(step).map_err(|(at, why)| (at.unwrap_or(*line), why))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), (Option<usize>, String)> {
        match step {
            Step::Option(key, words) => self.option(key, words).map_err(|why| (None, why))?,
            Step::Zone(zone) => {
                self.zones.retain(|known| known.name != zone.name);
                self.zones.push(zone.clone());
            }
            Step::Server(server) => {
                self.servers.retain(|known| known.address != server.address);
                self.servers.push(server.clone());
            }
            Step::Said(said) => self.said.push(said.clone()),
            Step::Wait(time) => self.now = self.now + *time,
            Step::Flush(zone) => self.world.flush(self.now, &Flushed::Zone(zone.clone())),
            Step::Ask(name, rtype, expects) => {
                let fetch = Fetch { name: name.clone(), qtype: *rtype };
                let went = self.ask(fetch, Purpose::Question);
                judge(&went, expects)?;
                if went.primes {
                    let root = Fetch { name: Name::root(), qtype: 2 };
                    self.ask(root, Purpose::Prime);
                }
                // No two moments are the same.
                self.now = self.now + Duration::from_millis(1);
            }
        }
        Ok(())
    }

    fn option(&mut self, key: &str, words: &[String]) -> Result<(), String> {
        let first = words.first().map(String::as_str).unwrap_or_default();
        let yes = first == "yes";
        let options = &mut self.options;
        match key {
            "hints" => {
                let ip = |word: &String| word.parse::<IpAddr>().map_err(|e| format!("{word}: {e}"));
                let ips = words.iter().map(ip).collect::<Result<Vec<_>, _>>()?;
                let named = ips.into_iter().enumerate();
                let named = named.map(|(n, ip)| (format!("h{n}.hints.").parse().unwrap(), ip));
                options.hints = named.collect();
            }
            "prime" => options.prime = yes,
            "minimise" => options.minimise = yes,
            "scramble" => options.scramble = yes,
            "harden-glue" => options.harden_glue = yes,
            "ipv4" => options.ipv4 = yes,
            "ipv6" => options.ipv6 = yes,
            "allow-server" => {
                let nets: Result<_, _> = words.iter().map(|word| word.parse::<IpNet>()).collect();
                options.allow_server = nets.map_err(|e| e.to_string())?;
            }
            "stub" => {
                let zone: Name = first.parse().map_err(|e| format!("{e}"))?;
                let ips = words[1..].iter().filter_map(|word| word.parse::<IpAddr>().ok());
                let servers = ips.map(|ip| (ip, 53).into()).collect();
                options.stubs.push(Stub { zone, servers });
            }
            "forward" => options.forwarded.push(first.parse().map_err(|e| format!("{e}"))?),
            "seed" => self.seed = first.parse().map_err(|_| "a number".to_owned())?,
            other => return Err(format!("`{other}` is no option")),
        }
        Ok(())
    }

    fn ask(&mut self, fetch: Fetch, purpose: Purpose) -> Went {
        let started = self.now;
        let options = Arc::new(self.options.clone());
        let mut machine = Machine::new(self.now, fetch, purpose, options, self.seed);
        self.seed += 1;
        let mut coming: BTreeMap<(BootTime, usize), Input> = BTreeMap::new();
        let mut went = Vec::new();
        let mut primes = false;
        let mut order = 0;
        let mut input = Input::Start;
        loop {
            let mut outputs = Vec::new();
            machine.step(self.now, input, &self.world, &mut outputs);
            for output in outputs {
                order += 1;
                match output {
                    Output::Ask(ask) => {
                        went.push(show_ask(&ask));
                        if let Some((delay, came)) = self.reply(&ask) {
                            let input = Input::Came(ask.attempt, came);
                            coming.insert((self.now + delay, order), input);
                        }
                    }
                    Output::Fetch(ticket, fetch) => {
                        went.push(format!("upstream {} {}", fetch.name, show_type(fetch.qtype)));
                        let result = self.upstream(&fetch);
                        let at = self.now + Duration::from_millis(10);
                        coming.insert((at, order), Input::Fetched(ticket, result));
                    }
                    Output::Prime => primes = true,
                    Output::Done(result) => {
                        let took = self.now.saturating_since(started);
                        return Went { result, asked: went, took, primes };
                    }
                }
            }
            let wake = machine.wake_at().expect("a machine that is not done wakes");
            match coming.first_entry() {
                Some(next) if next.key().0 <= wake => {
                    self.now = next.key().0;
                    input = next.remove();
                }
                _ => {
                    self.now = self.now.max(wake);
                    input = Input::Wake;
                }
            }
        }
    }

    fn reply(
        &mut self,
        ask: &Ask,
    ) -> Option<(Duration, resolverd::resolver::iterate::machine::Came)> {
        let server = self.servers.iter_mut().find(|s| s.address == ask.server.ip())?;
        reply(server, &self.zones, &self.said, ask)
    }

    /// Upstreams know every zone, and say what they have at the name itself.
    fn upstream(&self, fetch: &Fetch) -> Result<Reply, Ede> {
        let all = self.zones.iter().flat_map(|zone| &zone.records);
        let found = all.filter(|r| r.owner == fetch.name && r.rtype == fetch.qtype);
        let answer: Vec<_> = found.cloned().collect();
        if answer.is_empty() {
            return Err(Ede { code: 22, text: "upstreams know nothing".to_owned() });
        }
        Ok(Reply { answer, ..Reply::default() })
    }
}

fn show_ask(ask: &Ask) -> String {
    let Fetch { name, qtype } = &ask.question;
    let tcp = if ask.transport == Transport::Tcp { " tcp" } else { "" };
    let plain = if ask.edns { "" } else { " plain" };
    let steady = if ask.scramble || !tcp.is_empty() { "" } else { " steady" };
    format!("{} {name} {}{tcp}{plain}{steady}", ask.server.ip(), show_type(*qtype))
}

fn judge(went: &Went, expects: &[(usize, Expect)]) -> Result<(), (Option<usize>, String)> {
    let Went { result, asked, took, primes } = went;
    let said = || match result {
        Ok(reply) => {
            let lines: Vec<String> = reply.answer.iter().map(show).collect();
            format!("rcode {}, answer {lines:?}", reply.rcode)
        }
        Err(ede) => format!("failure {} {}", ede.code, ede.text),
    };
    let context = |why: String| {
        format!("{why}\n    {}\n    in {took:?}, asked:\n      {}", said(), asked.join("\n      "))
    };
    let fails = expects.iter().any(|(_, expect)| matches!(expect, Expect::Fails(_)));
    let mut rcode = 0;
    let mut answers = Vec::new();
    let mut from = 0;
    for (line, expect) in expects {
        let bad = |why: String| Err((Some(*line), context(why)));
        match expect {
            Expect::Rcode(code) => rcode = *code,
            Expect::Answer(text) => answers.push(text.clone()),
            Expect::Authority(text) => {
                let has = result
                    .as_ref()
                    .is_ok_and(|reply| reply.authority.iter().any(|record| show(record) == *text));
                if !has {
                    return bad(format!("nothing like `{text}` in the authority section"));
                }
            }
            Expect::Fails(text) => match result {
                Err(ede) if format!("{} {}", ede.code, ede.text).contains(text.as_str()) => {}
                _ => return bad(format!("it does not fail with `{text}`")),
            },
            Expect::Within(time) if took > time => return bad(format!("later than {time:?}")),
            Expect::After(time) if took < time => return bad(format!("sooner than {time:?}")),
            Expect::QueriesAtMost(count) if asked.len() > *count => {
                return bad(format!("{} questions, and not {count}", asked.len()));
            }
            Expect::QueriesAtLeast(count) if asked.len() < *count => {
                return bad(format!("{} questions, and not {count}", asked.len()));
            }
            Expect::Asked(text) => {
                let rest = &asked[from..];
                match rest.iter().position(|line| line == text) {
                    Some(at) => from += at + 1,
                    None => return bad(format!("`{text}` was not asked, or earlier")),
                }
            }
            Expect::Never(text) => {
                let hit = |line: &&String| format!("{line} ").contains(&format!("{text} "));
                if let Some(line) = asked.iter().find(hit) {
                    return bad(format!("`{line}` was asked"));
                }
            }
            Expect::Primes if !primes => return bad("priming was not called for".to_owned()),
            _ => {}
        }
    }
    if fails {
        return Ok(());
    }
    match result {
        Err(_) => Err((None, context("it failed".to_owned()))),
        Ok(reply) if reply.rcode != rcode => {
            Err((None, context(format!("the rcode is not {rcode}"))))
        }
        Ok(reply) => {
            let shown: Vec<String> = reply.answer.iter().map(show).collect();
            if shown == answers {
                return Ok(());
            }
            Err((None, context(format!("the answer is not {answers:?}"))))
        }
    }
}
