//! An element: a table with keys of its own where a value stands. It is read from TOML and written in one line.
//!
//! Here is what all elements share; each says its [keys](super::keys), and what it is once they are read.

use std::marker::PhantomData;

use super::file::{self, Reader};
use super::keys::{Keys, Names};
use super::kinds::{Kind, Node, Places, mistyped};
use super::print::Inline;
use super::problem::{Fault, Wrong};

/// An element while it is read: at first every key has what it has when nothing is said.
pub(super) trait Element: Default {
    /// What it is when it is read.
    type Value;
    /// The key that it stands at, with its section.
    const KEY: &'static str;
    /// What to write where it is none.
    const EXAMPLE: &'static str;

    /// Walks through its keys.
    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault>;

    /// Checks it as a whole.
    fn finish(self) -> Result<Self::Value, Wrong>;

    /// For writing.
    fn of(value: &Self::Value) -> Self;
}

/// The kind of an element.
pub(super) struct Table<E>(PhantomData<E>);

impl<E> Table<E> {
    /// There is but one.
    pub const KIND: Self = Self(PhantomData);
}

impl<E: Element> Kind for Table<E> {
    type Value = E::Value;

    fn read(&self, node: &Node<'_>) -> Result<E::Value, Fault> {
        let table = node.get_ref().as_table().ok_or_else(|| mistyped(node, "a table", E::EXAMPLE))?;
        let mut names = Names::default();
        E::default().keys(&mut names)?;
        file::refuse_unknown(table, "an entry", &names.0)?;
        let mut element = E::default();
        element.keys(&mut Reader { table, path: E::KEY, places: &mut Places::new() })?;
        element.finish().map_err(|wrong| Fault::at(node.span(), wrong))
    }

    fn write(&self, value: &E::Value) -> String {
        Inline::of(|keys| E::of(value).keys(keys))
    }
}
