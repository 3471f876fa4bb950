//! Who may ask what, and what is answered without asking anybody.
//!
//! The door. All of it is pure, and swapped as a whole by a reload; only `rpz/driver` speaks
//! with others. [`Rules`] has what stands in the configuration: access list, views, local zones,
//! files of hosts, built-in zones, private addresses, DNS64. Behind the
//! access list stands the [`Limiter`], which a good cookie passes. [`Rpz`] has what feeds say. What
//! neither settles is for the cache and the resolver.

pub mod acl;
pub mod addresses;
mod builtin;
pub mod cookies;
pub mod dns64;
pub mod hosts;
pub mod limits;
pub mod local_zones;
pub mod names;
pub mod prefixes;
pub mod rebinding;
pub mod rpz;
pub mod rules;
pub mod said;
pub mod views;
mod zone_text;

pub use acl::{Acl, AclError, Verdict};
pub use dns64::Dns64;
pub use hosts::Hosts;
pub use limits::{Judged, Limiter};
pub use local_zones::{LocalZones, ZoneError, ZoneKind, ZoneSpec};
pub use rebinding::Rebinding;
pub use rpz::Rpz;
pub use rules::{Rule, Rules, Ruling};
pub use said::{Alias, Said};
pub use views::{Access, Admission, ViewId, ViewSpec, Views, Way};
