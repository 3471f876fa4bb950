//! Proofs, and the traps that look like proofs. Nothing is signed here: what is proven by what is
//! the only question.

use data_encoding::BASE32HEX_NOPAD;

use super::super::rrset::group;
use super::super::vectors::{name, record};
use super::*;
use crate::dns::records::Record;

/// What is asked of a denial, and what must come of it.
#[derive(Clone, Copy, Debug)]
enum Ask {
    NameError,
    NoData(u16),
    /// A wildcard below this name was expanded.
    Expansion(&'static str),
    /// The DS of a name, NOERROR or NXDOMAIN.
    Cut {
        exists: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    /// Insecure: opt-out, or an unsigned delegation.
    Perhaps,
}

use Ask::{Cut as AskCut, Expansion, NameError, NoData};
use Says::{No, Perhaps, Yes};

fn ask(zone: &str, records: &[Record], about: &str, what: Ask) -> Says {
    let denial = Denial::of(&name(zone), &group(records));
    let about = name(about);
    let mut work = Work::of_one_question();
    let proof = match what {
        NameError => denial.name_error(&about, &mut work),
        NoData(qtype) => denial.no_data(&about, qtype, &mut work),
        Expansion(encloser) => denial.expansion(&about, &name(encloser), &mut work),
        AskCut { exists } => {
            return match denial.cut(&about, exists, &mut work) {
                Ok(Cut::Insecure(_)) => Perhaps,
                Ok(Cut::None | Cut::NoName) => Yes,
                Err(_) => No,
            };
        }
    };
    match proof {
        Ok(Proof::Secure) => Yes,
        Ok(Proof::Insecure(_)) => Perhaps,
        Err(failure) => {
            assert_eq!(failure.code, ede::NSEC_MISSING);
            No
        }
    }
}

fn lines(text: &[&str]) -> Vec<Record> {
    text.iter()
        .map(|line| {
            let (owner, rest) = line.split_once(' ').unwrap();
            record(&format!("{owner} 300 IN NSEC {rest}"))
        })
        .collect()
}

const A: u16 = 1;
const DS: u16 = 43;
const MX: u16 = 15;

#[test]
fn every_trap_of_nsec() {
    // Apex; a delegation; a name with an alias; an empty non-terminal; a wildcard; a DNAME.
    const APEX: &str = "t. a.t. NS SOA MX RRSIG NSEC DNSKEY";
    const A_TO_CUT: &str = "a.t. cut.t. A RRSIG NSEC";
    const CUT: &str = "cut.t. d.t. NS RRSIG NSEC";
    const SIGNED_CUT: &str = "cut.t. d.t. NS DS RRSIG NSEC";
    const D_TO_BELOW_ENT: &str = "d.t. x.ent.t. A RRSIG NSEC";
    const BELOW_ENT: &str = "x.ent.t. link.t. A RRSIG NSEC";
    const LINK: &str = "link.t. tree.t. CNAME RRSIG NSEC";
    const TREE: &str = "tree.t. *.w.t. DNAME RRSIG NSEC";
    const WILD: &str = "*.w.t. h.w.t. A RRSIG NSEC";
    const LAST: &str = "h.w.t. t. A RRSIG NSEC";
    for (what, records, about, asked, says) in [
        ("a gap and no wildcard", &[A_TO_CUT, APEX][..], "b.t.", NameError, Yes),
        ("the gap without the wildcard's", &[A_TO_CUT], "b.t.", NameError, No),
        ("the wildcard's gap alone", &[APEX], "b.t.", NameError, No),
        ("one record around both", &["t. cut.t. NS SOA NSEC"], "b.t.", NameError, Yes),
        ("the name itself exists", &[A_TO_CUT, APEX], "a.t.", NameError, No),
        ("the end of the gap exists", &[A_TO_CUT, APEX], "cut.t.", NameError, No),
        ("the last record reaches the end", &[LAST, APEX], "z.t.", NameError, Yes),
        ("the last record reaches no other zone", &[LAST, APEX], "z.u.", NameError, No),
        ("below a name that exists", &[A_TO_CUT, APEX], "x.a.t.", NameError, Yes),
        ("an empty non-terminal exists", &[D_TO_BELOW_ENT, APEX], "ent.t.", NameError, No),
        ("an empty non-terminal has no data", &[D_TO_BELOW_ENT], "ent.t.", NoData(A), Yes),
        ("nor any above it", &[D_TO_BELOW_ENT], "e.t.", NoData(A), No),
        ("a wildcard stands for it", &[LAST, WILD], "z.w.t.", NameError, No),
        ("RFC 6840 4.1: below a delegation", &[CUT, APEX], "x.cut.t.", NameError, No),
        ("RFC 6840 4.1: no data below it", &[CUT, APEX], "x.cut.t.", NoData(A), No),
        ("the delegation's gap beside it", &[CUT, APEX], "cuu.t.", NameError, Yes),
        ("RFC 6672 5.3.4.1: below a DNAME", &[TREE, APEX], "x.tree.t.", NameError, No),
        ("a DNAME's gap beside it", &[TREE, APEX], "u.t.", NameError, Yes),
        ("a type it has not", &[A_TO_CUT], "a.t.", NoData(MX), Yes),
        ("a type it has", &[A_TO_CUT], "a.t.", NoData(A), No),
        ("RFC 6840 4.3: an alias", &[LINK], "link.t.", NoData(A), No),
        ("the type CNAME of an alias", &[LINK], "link.t.", NoData(5), No),
        ("the parent's side speaks for DS", &[CUT], "cut.t.", NoData(DS), Yes),
        ("and for nothing else", &[CUT], "cut.t.", NoData(A), No),
        ("nor does it for NS", &[CUT], "cut.t.", NoData(2), No),
        ("a DS that is there", &[SIGNED_CUT], "cut.t.", NoData(DS), No),
        ("RFC 6840 4.4: the child's side on DS", &[APEX], "t.", NoData(DS), No),
        ("the child's side on others", &[APEX], "t.", NoData(A), Yes),
        ("a wildcard without the type", &[LAST, WILD], "z.w.t.", NoData(MX), Yes),
        ("a wildcard with the type", &[LAST, WILD], "z.w.t.", NoData(A), No),
        ("the wildcard without the gap", &[WILD], "z.w.t.", NoData(MX), No),
        ("a nearer name is in the gap", &[LAST], "z.w.t.", Expansion("w.t."), Yes),
        ("that name exists", &[WILD], "h.w.t.", Expansion("w.t."), No),
        ("its ancestor exists", &[WILD], "x.h.w.t.", Expansion("w.t."), No),
        ("a wildcard that is not above it", &[LAST], "z.w.t.", Expansion("z.w.t."), No),
        ("any type of one that has some", &[A_TO_CUT], "a.t.", NoData(255), No),
        ("an unsigned delegation", &[CUT], "cut.t.", AskCut { exists: true }, Perhaps),
        ("a signed one", &[SIGNED_CUT], "cut.t.", AskCut { exists: true }, No),
        ("no delegation", &[A_TO_CUT], "a.t.", AskCut { exists: true }, Yes),
        ("an alias is none", &[LINK], "link.t.", AskCut { exists: true }, No),
        (
            "an empty non-terminal is none",
            &[D_TO_BELOW_ENT],
            "ent.t.",
            AskCut { exists: true },
            Yes,
        ),
        ("no name at all", &[A_TO_CUT, APEX], "b.t.", AskCut { exists: false }, Yes),
        ("a gap that is no proof", &[A_TO_CUT], "b.t.", AskCut { exists: true }, No),
        ("the zone's own apex", &[APEX], "t.", AskCut { exists: true }, No),
        ("nothing", &[], "b.t.", NameError, No),
    ] {
        assert_eq!(ask("t.", &lines(records), about, asked), says, "{what}: {about} {asked:?}");
    }
    let below = lines(&[BELOW_ENT]);
    assert_eq!(ask("t.", &below, "y.ent.t.", NoData(A)), No);
}

#[test]
fn a_compact_denial_is_one_of_the_name_it_was_made_for() {
    // RFC 9824 section 3.1; and with the RCODE restored, section 5.
    let compact = lines(&[r"b.t. \000.b.t. RRSIG NSEC TYPE128"]);
    assert_eq!(ask("t.", &compact, "b.t.", NoData(A)), Yes);
    assert_eq!(ask("t.", &compact, "b.t.", NameError), Yes);
    assert_eq!(ask("t.", &compact, "b.t.", NoData(255)), Yes);
    assert_eq!(ask("t.", &compact, "b.t.", AskCut { exists: true }), Yes);
    assert_eq!(ask("t.", &compact, "c.t.", NameError), No);
    assert_eq!(ask("t.", &compact, "x.b.t.", NameError), No, "b.t. itself has no name below");
    let exists = lines(&[r"b.t. \000.b.t. TXT RRSIG NSEC"]);
    assert_eq!(ask("t.", &exists, "b.t.", NoData(A)), Yes);
    assert_eq!(ask("t.", &exists, "b.t.", NameError), No);
}

#[test]
fn minimally_covering_records_prove_what_they_cover() {
    // RFC 4470.
    let white_lies = lines(&[r"az.t. b\000.t. RRSIG NSEC", r"\).t. \+.t. RRSIG NSEC"]);
    assert_eq!(ask("t.", &white_lies, "b.t.", NameError), Yes);
    assert_eq!(ask("t.", &white_lies[..1], "b.t.", NameError), No, "the wildcard is not covered");
}

#[test]
fn the_root_denies_a_ds_of_itself() {
    let root = lines(&[". aaa. NS SOA RRSIG NSEC DNSKEY"]);
    assert_eq!(ask(".", &root, ".", NoData(DS)), Yes);
    assert_eq!(ask(".", &root, "0.", NameError), Yes);
}

#[test]
fn records_of_another_zone_or_two_at_one_name_are_not_taken() {
    let stranger = lines(&["a.u. z.u. A RRSIG NSEC", "u. a.u. SOA NS NSEC"]);
    assert_eq!(ask("t.", &stranger, "b.t.", NameError), No);
    let leads_out = lines(&["a.t. z.u. A RRSIG NSEC", "t. a.t. SOA NS NSEC"]);
    assert_eq!(ask("t.", &leads_out, "b.t.", NameError), No);
    let twice = lines(&["t. c.t. SOA NS NSEC", "t. b.t. SOA NS NSEC"]);
    assert_eq!(ask("t.", &twice, "bb.t.", NameError), No);
    // The same one, told at another time, is the same one.
    let mut told = lines(&["t. c.t. SOA NS NSEC"]);
    told.extend(told.clone().into_iter().map(|record| Record { ttl: record.ttl / 2, ..record }));
    assert_eq!(ask("t.", &told, "bb.t.", NameError), Yes);
}

/// A whole chain of NSEC3 for these names of the zone `t.`, each with the name it is of.
fn chain(names: &[(&str, &str)], opt_out: bool, iterations: u16) -> Vec<(String, Record)> {
    let mut hashed: Vec<_> = names
        .iter()
        .map(|(owner, types)| (nsec3::hash_of(&name(owner), &[0xab], iterations), *owner, *types))
        .collect();
    hashed.sort();
    let text = |hash: &nsec3::Hash| BASE32HEX_NOPAD.encode(hash).to_ascii_lowercase();
    (0..hashed.len())
        .map(|at| {
            let (hash, owner, types) = &hashed[at];
            let next = text(&hashed[(at + 1) % hashed.len()].0);
            let flags = u8::from(opt_out);
            let line =
                format!("{}.t. 300 IN NSEC3 1 {flags} {iterations} AB {next} {types}", text(hash));
            ((*owner).to_owned(), record(&line))
        })
        .collect()
}

const NAMES: &[(&str, &str)] = &[
    ("t.", "NS SOA MX RRSIG DNSKEY NSEC3PARAM"),
    ("a.t.", "A RRSIG"),
    ("cut.t.", "NS"),
    ("scut.t.", "NS DS RRSIG"),
    ("ent.t.", ""),
    ("x.ent.t.", "A RRSIG"),
    ("link.t.", "CNAME RRSIG"),
    ("tree.t.", "DNAME RRSIG"),
    ("w.t.", ""),
    ("*.w.t.", "A RRSIG"),
    ("h.w.t.", "A RRSIG"),
];

fn records_of(chain: &[(String, Record)]) -> Vec<Record> {
    chain.iter().map(|(_, record)| record.clone()).collect()
}

/// The whole chain but for the record that matches `without`.
fn without(chain: &[(String, Record)], without: &str) -> Vec<Record> {
    chain.iter().filter(|(owner, _)| owner != without).map(|(_, record)| record.clone()).collect()
}

#[test]
fn every_trap_of_nsec3() {
    let chain = chain(NAMES, false, 3);
    let all = records_of(&chain);
    for (what, records, about, asked, says) in [
        ("no such name", all.clone(), "b.t.", NameError, Yes),
        ("no such name deep down", all.clone(), "x.y.a.t.", NameError, Yes),
        ("no closest encloser", without(&chain, "t."), "b.t.", NameError, No),
        ("the name exists", all.clone(), "a.t.", NameError, No),
        ("an empty non-terminal exists", all.clone(), "ent.t.", NameError, No),
        ("a wildcard stands for it", all.clone(), "z.w.t.", NameError, No),
        ("below a delegation", all.clone(), "x.cut.t.", NameError, No),
        ("below a signed one", all.clone(), "x.scut.t.", NameError, No),
        ("below a DNAME", all.clone(), "x.tree.t.", NameError, No),
        ("another zone's name", all.clone(), "b.u.", NameError, No),
        ("a type it has not", all.clone(), "a.t.", NoData(MX), Yes),
        ("a type it has", all.clone(), "a.t.", NoData(A), No),
        ("an alias", all.clone(), "link.t.", NoData(A), No),
        ("an empty non-terminal", all.clone(), "ent.t.", NoData(A), Yes),
        ("a name without a record", without(&chain, "a.t."), "a.t.", NoData(MX), No),
        ("the parent's side on DS", all.clone(), "cut.t.", NoData(DS), Yes),
        ("the parent's side on others", all.clone(), "cut.t.", NoData(A), No),
        ("a DS that is there", all.clone(), "scut.t.", NoData(DS), No),
        ("the child's side on DS", all.clone(), "t.", NoData(DS), No),
        ("the child's side on others", all.clone(), "t.", NoData(A), Yes),
        ("a wildcard without the type", all.clone(), "z.w.t.", NoData(MX), Yes),
        ("a wildcard with the type", all.clone(), "z.w.t.", NoData(A), No),
        ("the wildcard left out", without(&chain, "*.w.t."), "z.w.t.", NoData(MX), No),
        ("nothing nearer", all.clone(), "z.w.t.", Expansion("w.t."), Yes),
        ("something nearer", all.clone(), "x.h.w.t.", Expansion("w.t."), No),
        ("a wildcard not above", all.clone(), "z.w.t.", Expansion("z.w.t."), No),
        ("an unsigned delegation", all.clone(), "cut.t.", AskCut { exists: true }, Perhaps),
        ("a signed delegation", all.clone(), "scut.t.", AskCut { exists: true }, No),
        ("no delegation", all.clone(), "a.t.", AskCut { exists: true }, Yes),
        ("an empty non-terminal", all.clone(), "ent.t.", AskCut { exists: true }, Yes),
        ("no such name", all.clone(), "b.t.", AskCut { exists: false }, Yes),
        ("a name said to exist", all.clone(), "b.t.", AskCut { exists: true }, No),
        ("nothing", Vec::new(), "b.t.", NameError, No),
    ] {
        assert_eq!(ask("t.", &records, about, asked), says, "{what}: {about} {asked:?}");
    }
}

#[test]
fn opt_out_proves_no_absence_but_still_proves_what_matches() {
    let signed: Vec<_> = NAMES.iter().filter(|(owner, _)| *owner != "cut.t.").copied().collect();
    let all = records_of(&chain(&signed, true, 0));
    for (about, asked, says) in [
        ("b.t.", NameError, Perhaps),
        ("b.t.", AskCut { exists: false }, Perhaps),
        ("cut.t.", AskCut { exists: true }, Perhaps),
        ("cut.t.", NoData(DS), Perhaps),
        // Erratum 3441: an empty non-terminal above unsigned delegations alone.
        ("b.t.", NoData(A), Perhaps),
        ("z.w.t.", Expansion("w.t."), Perhaps),
        ("z.w.t.", NoData(MX), Perhaps),
        ("z.w.t.", NoData(A), No),
        ("a.t.", NoData(MX), Yes),
        ("a.t.", NoData(A), No),
        ("a.t.", AskCut { exists: true }, Yes),
        ("scut.t.", AskCut { exists: true }, No),
        ("x.scut.t.", NameError, No),
    ] {
        assert_eq!(ask("t.", &all, about, asked), says, "{about} {asked:?}");
    }
}

#[test]
fn iterations_are_believed_then_insecure_then_refused() {
    let ask = |iterations: u16| {
        let all = records_of(&chain(NAMES, false, iterations));
        let denial = Denial::of(&name("t."), &group(&all));
        denial.name_error(&name("b.t."), &mut Work::of_one_question())
    };
    assert_eq!(ask(nsec3::ITERATIONS_BELIEVED), Ok(Proof::Secure));
    let past = nsec3::ITERATIONS_BELIEVED + 1;
    assert_eq!(ask(past), Ok(Proof::Insecure(Reason::Iterations(past))));
    assert_eq!(ask(nsec3::ITERATIONS_REFUSED + 1).unwrap_err().code, ede::UNSUPPORTED_ITERATIONS);
}

#[test]
fn hashing_ends_when_the_work_of_the_question_is_used_up() {
    let all = records_of(&chain(NAMES, false, nsec3::ITERATIONS_BELIEVED));
    let denial = Denial::of(&name("t."), &group(&all));
    let deep = name(&"x.".repeat(120).chars().chain("t.".chars()).collect::<String>());
    let mut work = Work::of_one_question();
    let failure = denial.name_error(&deep, &mut work).unwrap_err();
    assert!(failure.text.contains("too many hashes"), "{failure:?}");
    assert!(denial.name_error(&name("b.t."), &mut work).is_err(), "nothing is left");
}

#[test]
fn records_made_in_two_ways_are_not_mixed() {
    let one = chain(NAMES, false, 3);
    let other = chain(NAMES, false, 4);
    let of = |chain: &[(String, Record)], wanted: &str| {
        chain.iter().find(|(owner, _)| owner == wanted).unwrap().1.clone()
    };
    // The encloser's record of one chain, and all of the other.
    let mut mixed = vec![of(&one, "t.")];
    mixed.extend(records_of(&other));
    assert_eq!(ask("t.", &mixed, "b.t.", NameError), No);
    mixed.remove(0);
    assert_eq!(ask("t.", &mixed, "b.t.", NameError), Yes);
}

#[test]
fn both_kinds_at_once_are_each_judged_alone() {
    let hashed = records_of(&chain(NAMES, false, 1));
    let mut both = lines(&["a.t. cut.t. A RRSIG NSEC"]);
    both.extend(hashed.into_iter().take(10));
    // The gap of the one does not complete the proof of the other.
    let partial = lines(&["a.t. cut.t. A RRSIG NSEC"]);
    assert_eq!(ask("t.", &partial, "b.t.", NameError), No);
    assert_eq!(ask("t.", &both, "a.t.", NoData(MX)), Yes);
}
