//! Where a rule holds: below some names.

use super::refused::Refused;
use super::text;
use crate::wire::name;

/// Names, wire format, lower case: what is at or below one of them belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones(Vec<Box<[u8]>>);

impl Zones {
    /// All names.
    pub fn all() -> Self {
        Self(vec![Box::from([0])])
    }

    /// From names in wire format, lower case.
    pub fn from_wire(names: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        Self(names.into_iter().collect())
    }

    /// From names as people write them.
    ///
    /// # Errors
    /// One is no DNS name; [`Refused::word`] says which.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Refused> {
        let name = |(i, name)| text::name(name).map_err(|refused| refused.at(i));
        Ok(Self(names.into_iter().enumerate().map(name).collect::<Result<_, _>>()?))
    }

    /// The longest of them that holds `name`.
    pub fn of(&self, name: &[u8]) -> Option<&[u8]> {
        let zones = self.0.iter().map(|zone| &**zone);
        zones.filter(|zone| name::within(name, zone)).max_by_key(|zone| zone.len())
    }

    /// Whether one of them holds `name`.
    pub fn hold(&self, name: &[u8]) -> bool {
        self.of(name).is_some()
    }

    /// Each of them as people write it, with the last dot.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|zone| text::show(zone)).collect()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|zone| &**zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_zone_holds_a_name() {
        let zones = Zones::parse(["example.", "a.example", "test"]).unwrap();
        assert_eq!(zones.of(b"\x01x\x01a\x07example\0"), Some(&b"\x01a\x07example\0"[..]));
        assert_eq!(zones.of(b"\x01b\x07example\0"), Some(&b"\x07example\0"[..]));
        assert!(!zones.hold(b"\x03org\0"));
        assert!(Zones::all().hold(b"\0") && !Zones::default().hold(b"\0"));
        assert_eq!(Zones::parse(["ok.", "no..no"]).unwrap_err().word, Some(1));
    }
}
