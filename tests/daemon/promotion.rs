//! Which names get a place in the kernel's maps when there is not enough for all.

use anyhow::{Result, ensure};
use lab::{Ask, zones};

use crate::need_lab;
use crate::site::{By, Site};

#[test]
fn names_asked_for_once_do_not_push_out_those_that_are_asked_for_often() -> Result<()> {
    need_lab!();
    let site = Site::new()?;
    let _authority = site.authority(&[zones::bench(3_000)])?;
    let mut file = site.file(&[site.authority_at()]);
    file.entries = 256;
    let daemon = site.daemon(&file)?;
    let name = |n: usize| Ask::new(&format!("n{n:06}.bench.test."), "A");
    let hot: Vec<Ask> = (0..HOT).map(name).collect();
    for ask in &hot {
        site.warm(&daemon, ask)?;
    }
    // A walk over many names, as a crawler does it, with the hot ones asked for now and then.
    for n in HOT..HOT + ONCE {
        assert_eq!(site.ask(&name(n))?.rcode(), 0);
        if n % 100 == 0 {
            for ask in &hot {
                site.ask(ask)?;
            }
        }
    }
    let mut kept = 0;
    for ask in &hot {
        kept += usize::from(site.ask_by(&daemon, ask)?.1 == By::Kernel);
    }
    ensure!(kept >= HOT * 9 / 10, "{kept} of {HOT} hot names are left in the kernel");
    // A name that turns out to be asked for again gets its place.
    site.warm(&daemon, &name(HOT + ONCE))?;
    Ok(())
}

const HOT: usize = 50;
/// Several times what the map holds.
const ONCE: usize = 1_500;
