//! Who may ask what, and what is answered without asking anybody.
//!
//! The door. All of it is pure: built from the configuration, swapped as a whole by a reload,
//! and asked for each query. [`Acl`] comes first, then the [`Limiter`], which a good cookie passes,
//! then [`LocalZones`]; what they don't settle is for the cache and the resolver.

pub mod acl;
pub mod cookies;
pub mod limits;
pub mod local_zones;
mod zone_text;

pub use acl::{Acl, AclError, Verdict};
pub use limits::{Judged, Limiter};
pub use local_zones::{LocalZones, ZoneError, ZoneKind, ZoneSpec};
