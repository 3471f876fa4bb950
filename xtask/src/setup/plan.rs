//! What a machine lacks, as steps in order.
//!
//! Decides from facts, so that every kind of machine can be a test; takes no step.

use super::Wanted;
use super::facts::{Apt, Machine};
use super::step::{Act, Purpose, Step};
use crate::bpf::{self, LINKED, LINKED_SYSROOT, LINKER_LLVM_USED};

/// What is to be done, in order.
#[derive(Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub remarks: Vec<String>,
    /// What the tests need and no step can bring.
    pub lacking: Vec<String>,
}

pub fn plan(machine: &Machine, wanted: Wanted) -> Plan {
    let mut plan = Plan::default();
    if machine.parts.compiler().is_none() {
        plan_compiler(machine, &mut plan);
    }
    if wanted == Wanted::Tests {
        plan_tests(machine, &mut plan);
    }
    plan
}

/// The shortest way to a BPF compiler: a nightly that is all there needs at most a
/// linker; else Debian's packaged Rust, which no nightly of tomorrow can break; else
/// nightly's sources.
fn plan_compiler(machine: &Machine, plan: &mut Plan) {
    let parts = &machine.parts;
    if parts.told.is_some() {
        let why = match parts.told.as_deref() {
            Some("") => "the environment says so",
            _ => "the environment names a toolchain, but bpf-linker is missing",
        };
        plan.remarks.push(format!("no BPF compiler: {why}"));
        return;
    }
    if !machine.rustup {
        plan.remarks.push(format!("{NO_COMPILER} (rustup is not here)"));
        return;
    }
    let nightly = parts.nightly.filter(|nightly| nightly.can_build());
    let llvm_for = |oldest: u32| machine.llvms.iter().copied().find(|llvm| *llvm >= oldest);
    let mut steps = Vec::new();
    if let Some(nightly) = nightly
        && let Some(llvm) = llvm_for(nightly.llvm)
    {
        steps.push(Act::Linker { llvm });
    } else if machine.debian_rust || parts.linked.is_some_and(bpf::Toolchain::can_build) {
        let mut packages = machine.lacks(COMPILER_PACKAGES);
        if parts.linker.is_some() {
            packages.retain(|package| *package != LLVM_PACKAGE);
        }
        // Installed and still no compiler: what is there is too old, and apt upgrades it.
        if packages.is_empty() && parts.link_exists && parts.linker.is_some() {
            packages = COMPILER_PACKAGES.to_vec();
        }
        if !packages.is_empty() {
            steps.push(Act::Apt { packages, sudo: machine.apt == Apt::BySudo });
        }
        if !parts.link_exists {
            let words = ["toolchain", "link", LINKED, LINKED_SYSROOT];
            steps.push(Act::Rustup(words.map(str::to_owned).to_vec()));
        }
        if parts.linker.is_none() {
            steps.push(Act::Linker { llvm: LINKER_LLVM_USED });
        }
    } else if parts.linker.is_some() || llvm_for(LINKER_LLVM_USED).is_some() {
        let words = ["toolchain", "install", "nightly", "--profile", "minimal"];
        let words = words.into_iter().chain(["--component", "rust-src"]);
        steps.push(Act::Rustup(words.map(str::to_owned).collect()));
        if parts.linker.is_none() {
            let llvm = machine.llvms.iter().copied().max().unwrap_or(LINKER_LLVM_USED);
            steps.push(Act::Linker { llvm });
        }
    } else {
        plan.remarks.push(NO_COMPILER.to_owned());
    }
    plan.steps.extend(steps.into_iter().map(|act| Step { purpose: Purpose::KernelPath, act }));
}

fn plan_tests(machine: &Machine, plan: &mut Plan) {
    let packages = machine.lacks(TEST_PACKAGES);
    if !packages.is_empty() {
        if machine.apt == Apt::No {
            plan.lacking.extend(packages.iter().map(|package| format!("package {package}")));
            plan.remarks.push(format!(
                "these Debian packages are for the tests, and only root can install them: {}",
                packages.join(" ")
            ));
        } else {
            let act = Act::Apt { packages, sudo: machine.apt == Apt::BySudo };
            plan.steps.push(Step { purpose: Purpose::Tests, act });
        }
    }
    let components: Vec<_> = [("rustfmt", machine.formatter), ("clippy", machine.linter)]
        .into_iter()
        .filter_map(|(component, here)| (!here).then_some(component))
        .collect();
    if !components.is_empty() {
        let words = ["component", "add"].into_iter().chain(components);
        let act = Act::Rustup(words.map(str::to_owned).collect());
        plan.steps.push(Step { purpose: Purpose::Tests, act });
    }
    if !machine.aioquic {
        plan.steps.push(Step { purpose: Purpose::SomeTests, act: Act::Aioquic });
    }
}

pub const NO_COMPILER: &str = "no BPF compiler can be had here: the daemon is built without its \
                           kernel path, and answers from user space";

const LLVM_PACKAGE: &str = "llvm-22-dev";

/// Debian's packaged Rust with its sources, and the LLVM inside it for the linker.
pub const COMPILER_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", LLVM_PACKAGE];

/// What the tests and benches call.
pub const TEST_PACKAGES: &[&str] = &[
    "bind9-dnsutils",
    "bind9-utils",
    "bpftool",
    "clang",
    "curl",
    "dnsperf",
    "dnstap-ldns",
    "ethtool",
    "fstrm-bin",
    "haproxy",
    "iproute2",
    "knot",
    "knot-dnsutils",
    "knot-resolver",
    "ldnsutils",
    "libfaketime",
    "nghttp2-client",
    "nsd",
    "openssl",
    "procps",
    "python3-venv",
    "tcpdump",
    "unbound",
    "util-linux",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bpf::{Parts, Toolchain};

    const GOOD: Toolchain = Toolchain { release: (1, 96), llvm: 22, sources: true };

    /// Debian 12 with rustup and nothing else, as root.
    fn fresh() -> Machine {
        Machine {
            parts: Parts::default(),
            rustup: true,
            apt: Apt::AsRoot,
            packages: BTreeSet::new(),
            debian_rust: true,
            llvms: Vec::new(),
            formatter: true,
            linter: true,
            aioquic: true,
        }
    }

    fn acts(machine: &Machine, wanted: Wanted) -> Vec<Act> {
        plan(machine, wanted).steps.into_iter().map(|step| step.act).collect()
    }

    fn link() -> Act {
        Act::Rustup(["toolchain", "link", LINKED, "/usr"].map(str::to_owned).to_vec())
    }

    #[test]
    fn a_fresh_debian_gets_debians_rust_a_link_and_a_linker() {
        assert_eq!(
            acts(&fresh(), Wanted::Run),
            [
                Act::Apt { packages: COMPILER_PACKAGES.to_vec(), sudo: false },
                link(),
                Act::Linker { llvm: 22 },
            ]
        );
    }

    #[test]
    fn tools_of_the_tests_are_installed_for_the_tests_alone() {
        let acts = acts(&fresh(), Wanted::Tests);
        assert_eq!(acts.len(), 4);
        assert_eq!(acts[3], Act::Apt { packages: TEST_PACKAGES.to_vec(), sudo: false });
    }

    #[test]
    fn a_machine_that_lacks_nothing_has_no_steps_and_no_remarks() {
        let mut parts = Parts { linked: Some(GOOD), link_exists: true, ..Parts::default() };
        parts.linker = Some("/bin/bpf-linker".into());
        let all = [COMPILER_PACKAGES, TEST_PACKAGES].concat().into_iter().collect();
        let plan = plan(&Machine { parts, packages: all, ..fresh() }, Wanted::Tests);
        assert!(plan.steps.is_empty() && plan.remarks.is_empty() && plan.lacking.is_empty());
    }

    #[test]
    fn a_nightly_with_sources_lacks_only_its_linker() {
        let parts = Parts { nightly: Some(GOOD), ..Parts::default() };
        let machine = Machine { parts, llvms: vec![21, 22], ..fresh() };
        assert_eq!(acts(&machine, Wanted::Run), [Act::Linker { llvm: 22 }]);
    }

    #[test]
    fn a_nightly_that_no_llvm_here_can_link_for_falls_back_to_debians_rust() {
        let parts = Parts { nightly: Some(GOOD), ..Parts::default() };
        let machine = Machine { parts, ..fresh() };
        assert_eq!(acts(&machine, Wanted::Run).len(), 3);
    }

    #[test]
    fn an_outdated_packaged_rust_is_upgraded() {
        let old = Toolchain { release: (1, 85), ..GOOD };
        let mut parts = Parts { linked: Some(old), link_exists: true, ..Parts::default() };
        parts.linker = Some("/bin/bpf-linker".into());
        let packages = COMPILER_PACKAGES.iter().copied().collect();
        let machine = Machine { parts, packages, ..fresh() };
        let upgrade = Act::Apt { packages: COMPILER_PACKAGES.to_vec(), sudo: false };
        assert_eq!(acts(&machine, Wanted::Run), [upgrade]);
    }

    #[test]
    fn elsewhere_than_on_debian_nightlys_sources_are_fetched_if_they_can_be_linked() {
        let machine = Machine { apt: Apt::No, debian_rust: false, llvms: vec![22], ..fresh() };
        let acts = acts(&machine, Wanted::Run);
        assert!(matches!(&acts[0], Act::Rustup(words) if words.contains(&"rust-src".to_owned())));
        assert_eq!(acts[1..], [Act::Linker { llvm: 22 }]);
    }

    #[test]
    fn without_root_one_line_says_what_cannot_be_had_and_setup_goes_on() {
        let machine = Machine { apt: Apt::No, debian_rust: false, ..fresh() };
        let plan = plan(&machine, Wanted::Run);
        assert!(plan.steps.is_empty() && plan.lacking.is_empty());
        assert_eq!(plan.remarks, [NO_COMPILER]);
    }

    #[test]
    fn without_root_the_missing_test_tools_are_named() {
        let machine = Machine { apt: Apt::No, debian_rust: false, ..fresh() };
        let plan = plan(&machine, Wanted::Tests);
        assert!(plan.lacking.contains(&"package knot".to_owned()));
    }

    #[test]
    fn root_is_for_apt_alone() {
        let machine = Machine { apt: Apt::BySudo, formatter: false, ..fresh() };
        for step in plan(&machine, Wanted::Tests).steps {
            let is_apt = matches!(step.act, Act::Apt { .. });
            assert_eq!(step.command().get_program() == "sudo", is_apt, "{}", step.shown());
            assert_eq!(step.shown().starts_with("sudo "), is_apt);
        }
    }

    #[test]
    fn a_client_that_few_tests_need_is_fetched_last() {
        let last = acts(&Machine { aioquic: false, ..fresh() }, Wanted::Tests).pop();
        assert_eq!(last, Some(Act::Aioquic));
        assert!(!acts(&Machine { aioquic: false, ..fresh() }, Wanted::Run).contains(&Act::Aioquic));
    }

    #[test]
    fn missing_components_of_rustup_are_added() {
        let machine = Machine { formatter: false, linter: false, ..fresh() };
        let last = acts(&machine, Wanted::Tests).pop().unwrap();
        let words = ["component", "add", "rustfmt", "clippy"].map(str::to_owned);
        assert_eq!(last, Act::Rustup(words.to_vec()));
    }
}
