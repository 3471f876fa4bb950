//! The place of threat scores and rate limits, between policy and look-up.
//!
//! Empty: response rate limits come with the resolver's policy, scores with the analytics.

/// Judges nothing yet: every question goes on to the look-up.
#[inline(always)]
pub fn judge() {}
