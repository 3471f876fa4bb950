//! The one macro of unsafe: what may cross to the kernel as plain octets.

/// Declares types to be map keys or values for aya.
#[cfg(feature = "user")]
macro_rules! map_value {
    ($($t:ty),* $(,)?) => {$(
        const _: () = {
            const fn octets<T: zerocopy::IntoBytes + zerocopy::FromBytes + Copy + 'static>() {}
            octets::<$t>();
        };
        // SAFETY: the line above proves that the type has no padding and takes every pattern
        // of octets, which is what aya asks of a `Pod`.
        #[expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]
        unsafe impl aya::Pod for $t {}
    )*};
}

#[cfg(feature = "user")]
map_value! {
    crate::counters::Counters,
    crate::key::Key,
    crate::settings::Settings,
    crate::settings::Served,
    crate::settings::Interface,
    crate::settings::SourceKey,
    crate::settings::Source,
    crate::entry::Value128,
    crate::entry::Value256,
    crate::entry::Value512,
    crate::entry::Value1280,
}
