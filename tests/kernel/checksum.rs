//! Queries whose sum is left to the device, as every socket on the machine leaves it.
//!
//! Between two ends of a veth nobody looks at sums that were never made, so a wrong one is seen
//! only where the answer's way has to make it: here, at an end that was told not to trust.

use anyhow::{Context as _, Result, ensure};
use lab::{Ask, Namespace, wait};

use crate::site::{CLIENT, SERVER, Site, needs_the_kernel};

#[test]
fn a_query_that_is_summed_later_gets_an_answer_that_is_summed_right() -> Result<()> {
    needs_the_kernel!("queries that are summed later");
    let site = Site::new("tc")?;
    let wire = site.link.ends.wire;
    // The table needs no address here; a socket does.
    let client = &site.link.client;
    client.sysctl(&format!("net.ipv6.conf.{CLIENT}.disable_ipv6"), "0")?;
    client.address(CLIENT, &format!("{}/64", wire.near6))?;
    client.neighbour(CLIENT, &wire.far6.to_string(), &site.link.server.mac(SERVER)?)?;
    for how in ["on", "off"] {
        lab::run(site.link.server.command("ethtool").args(["-K", SERVER, "tx", how]))?;
        for server in [(wire.far, 53).into(), (wire.far6, 53).into()] {
            // From even and odd lengths.
            for name in ["www.lab.test.", "mail.lab.test.", "alias.lab.test."] {
                let ask = Ask::new(name, "A").edns(1232);
                let hit = || -> Result<bool> {
                    let before = site.operator.counts()?;
                    let answer = client.ask(server, &ask).context("no answer")?;
                    ensure!(!answer.answer.is_empty(), "{answer:?}");
                    Ok(site.operator.counts()?.since(&before).hits() == 1)
                };
                let mut last = Ok(false);
                wait::until("answered by the kernel", wait::STOP, || {
                    last = hit();
                    !matches!(last, Ok(false))
                })?;
                last.with_context(|| format!("tx {how}, {server}, {name}: {}", errors(client)))?;
            }
        }
    }
    Ok(())
}

/// What the client's kernel says of sums.
fn errors(client: &Namespace) -> String {
    let snmp = client.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"));
    let snmp = snmp.and_then(|text| Ok(text?)).unwrap_or_default();
    snmp.lines().filter(|line| line.starts_with("Udp:")).collect::<Vec<_>>().join("\n")
}
