//! The table of packets in each mode.

use anyhow::{Context as _, Result, ensure};
use lab::wait;
use serde_json::Value;

use crate::site::{Family, SERVER, Site, needs_the_kernel};
use crate::{life, table};

#[test]
fn native_xdp_says_what_the_daemon_says_and_passes_the_rest() -> Result<()> {
    needs_the_kernel!("native XDP");
    whole("xdp")
}

#[test]
fn generic_xdp_says_what_the_daemon_says_and_passes_the_rest() -> Result<()> {
    needs_the_kernel!("generic XDP");
    whole("xdp-generic")
}

#[test]
fn traffic_control_says_what_the_daemon_says_and_passes_the_rest() -> Result<()> {
    needs_the_kernel!("traffic control");
    whole("tc")
}

fn whole(mode: &str) -> Result<()> {
    let site = Site::new(mode)?;
    table::run(&site, mode, Family::V4)?;
    table::run(&site, mode, Family::V6)?;
    life::run(&site)
}

#[test]
fn another_mode_is_taken_after_a_restart_and_the_old_program_is_gone() -> Result<()> {
    needs_the_kernel!("another mode after a restart");
    let mut site = Site::new("xdp-generic")?;
    for mode in ["xdp", "tc", "xdp", "xdp-generic", "tc", "xdp-generic"] {
        ensure!(site.daemon.terminate()?.success(), "{}", site.daemon.log());
        site.daemon.rewrite(&site.link.config(&format!("mode = \"{mode}\"")))?;
        site.daemon.restart()?;
        let found = site.operator.attached(SERVER)?;
        ensure!(found == mode, "{found} where {mode} was asked for");
        let wanted = match mode {
            "xdp" => Some(1),
            "xdp-generic" => Some(2),
            _ => None,
        };
        // The kernel takes a link down a moment after its pin.
        wait::until("one program", wait::STOP, || xdp(&site).is_ok_and(|found| found == wanted))
            .with_context(|| format!("{mode}: {:?}", xdp(&site)))?;
    }
    Ok(())
}

/// The kind of XDP on the server's end: 1 native, 2 generic.
fn xdp(site: &Site) -> Result<Option<u64>> {
    let text = site.link.server.ip(&["-j", "-d", "link", "show", SERVER])?;
    let json: Value = serde_json::from_str(&text)?;
    Ok(json[0]["xdp"]["mode"].as_u64())
}
