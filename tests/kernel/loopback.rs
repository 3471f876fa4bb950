//! The kernel path on `lo`, where every machine can have it.

use anyhow::{Context as _, Result, ensure};
use lab::{Authority, Daemon, Namespace, dig, wait, zones};
use resolverd_common::counters::Reason;

use crate::operator::{Counts, Operator};
use crate::site::{UPSTREAM, needs_the_kernel};

struct Loopback {
    namespace: Namespace,
    daemon: Daemon,
    operator: Operator,
    _authority: Authority,
}

impl Loopback {
    fn new(mode: &str) -> Result<Self> {
        let namespace = Namespace::new("lo")?;
        namespace.address("lo", &format!("{UPSTREAM}/32"))?;
        let zones = [zones::lab(), zones::signed()];
        let authority = Authority::start(&namespace, &[UPSTREAM.parse()?], &zones)?;
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:53\", \"[::1]:53\"]\n\
             [kernel]\nmode = \"{mode}\"\ninterfaces = [\"lo\"]\n\
             [resolve]\nupstream-from = \"none\"\n\
             [[upstream]]\nname = \"knot\"\naddress = \"{UPSTREAM}:53\"\n"
        );
        let daemon = Daemon::start(&namespace, &config)?;
        let operator = Operator::of(&daemon);
        let found = operator.attached("lo")?;
        ensure!(mode == "auto" || found == mode, "{found} where {mode} was asked for");
        Ok(Self { namespace, daemon, operator, _authority: authority })
    }

    /// One `dig`: what it says, and what was counted meanwhile.
    fn dig(&self, server: &str, words: &[&str]) -> Result<(String, Counts)> {
        let before = self.operator.counts()?;
        let text = dig(&self.namespace, server.parse()?, words)?;
        // Traffic of others crosses `lo` too: what the daemon asks, and its answers.
        Ok((text, self.operator.counts()?.since(&before).of_dns()))
    }

    /// Asks until what is counted is what `enough` looks for.
    fn dig_until(
        &self,
        server: &str,
        words: &[&str],
        enough: impl Fn(&Counts) -> bool,
    ) -> Result<String> {
        let mut last = (String::new(), Counts::default());
        let waited = wait::until("counted as it should", wait::STOP, || {
            last = self.dig(server, words).unwrap_or_default();
            enough(&last.1)
        });
        waited.with_context(|| format!("{words:?}: {}\n{}", last.1, last.0))?;
        Ok(last.0)
    }
}

#[test]
fn the_second_dig_on_loopback_is_the_kernels() -> Result<()> {
    needs_the_kernel!("dig on loopback");
    for mode in ["tc", "xdp-generic", "auto"] {
        let site = Loopback::new(mode)?;
        for server in ["127.0.0.1:53", "[::1]:53"] {
            site.operator.flush_all()?;
            let words = ["www.lab.test", "A"];
            let (cold, counted) = site.dig(server, &words)?;
            ensure!(counted.hits() == 0, "{mode}: {counted}");
            ensure!(cold.contains("status: NOERROR"), "{cold}");
            let (warm, counted) = site.dig(server, &words)?;
            ensure!(counted.hit(Reason::Answered) == 1, "{mode}: {counted}\n{warm}");
            ensure!(warm.contains("192.0.2.1\n"), "{warm}");
            ensure!(!warm.contains("warning") && !warm.contains("WARNING"), "{warm}");
        }
        let explained = site.daemon.cli(&["explain", "www.lab.test", "A"])?;
        ensure!(explained.to_lowercase().contains("kernel"), "{mode}: {explained}");
    }
    Ok(())
}

#[test]
fn long_signed_answers_are_traffic_controls_and_generic_xdp_passes_them() -> Result<()> {
    needs_the_kernel!("long signed answers");
    let words = ["nothing.signed.test", "A", "+dnssec", "+bufsize=1232"];
    let site = Loopback::new("tc")?;
    let text = site.dig_until("127.0.0.1:53", &words, |c| c.hit(Reason::Answered) == 1)?;
    ensure!(size(&text)? >= LONG, "{text}");
    ensure!(text.contains("status: NXDOMAIN") && text.contains("RRSIG"), "{text}");
    drop(site);
    let site = Loopback::new("xdp-generic")?;
    let text = site.dig_until("127.0.0.1:53", &words, |c| c.passed(Reason::Grow) == 1)?;
    ensure!(size(&text)? >= LONG && text.contains("RRSIG"), "{text}");
    Ok(())
}

/// What dig says of the answer's size.
fn size(text: &str) -> Result<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(";; MSG SIZE  rcvd: "));
    Ok(line.context("no size")?.trim().parse()?)
}

/// More than generic XDP makes room for on loopback.
const LONG: usize = 480;
