//! Structures in the debug information: members, and the variants of an enumeration or state
//! machine.

use gimli::{AttributeValue, UnitHeader, UnitOffset, UnitRef, constants as dw};

use super::{
    super::debug_info::{Entry, Slice, location, string},
    Discriminant, Reader,
};
use crate::model::SourceLocation;

/// Members and variants of one type.
const MAX_MEMBERS: usize = 1 << 12;

/// A type in the debug information: the unit's index, and the entry.
pub(super) type Place = (usize, UnitOffset);

pub(super) struct Member {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) of_type: Option<Place>,
    pub(super) location: Option<SourceLocation>,
}

/// A structure as it is written down.
#[derive(Default)]
pub(super) struct Structure {
    pub(super) members: Vec<Member>,
    pub(super) discriminant: Option<Discriminant>,
    pub(super) variants: Vec<(Option<u64>, Member)>,
}

impl<'a> Reader<'a> {
    /// What is written down of a type.
    pub(super) fn structure(&self, (index, offset): Place) -> Option<Structure> {
        let unit = self.dwarf.unit(*self.headers.get(index)?).ok()?;
        let unit = unit.unit_ref(self.dwarf);
        let mut tree = unit.entries_tree(Some(offset)).ok()?;
        let root = tree.root().ok()?;
        let mut structure = Structure::default();
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            match child.entry().tag() {
                dw::DW_TAG_member if structure.members.len() < MAX_MEMBERS => {
                    structure
                        .members
                        .extend(self.member(index, unit, child.entry()));
                }
                dw::DW_TAG_variant_part => {
                    let discr = child.entry().attr_value(dw::DW_AT_discr);
                    structure.discriminant = self.discriminant(index, unit, discr);
                    let mut variants = child.children();
                    while let Ok(Some(variant)) = variants.next() {
                        let is_variant = variant.entry().tag() == dw::DW_TAG_variant;
                        if !is_variant || structure.variants.len() == MAX_MEMBERS {
                            continue;
                        }
                        let value = variant.entry().attr_value(dw::DW_AT_discr_value);
                        let value = value.and_then(|value| number(&value));
                        let mut inside = variant.children();
                        if let Ok(Some(member)) = inside.next()
                            && let Some(member) = self.member(index, unit, member.entry())
                        {
                            structure.variants.push((value, member));
                        }
                    }
                }
                _ => {}
            }
        }
        Some(structure)
    }

    fn discriminant(
        &self,
        index: usize,
        unit: UnitRef<'_, Slice<'a>>,
        discr: Option<AttributeValue<Slice<'a>>>,
    ) -> Option<Discriminant> {
        let AttributeValue::UnitRef(member) = discr? else {
            return None;
        };
        let member = unit.entry(member).ok()?;
        let offset = number(&member.attr_value(dw::DW_AT_data_member_location)?)?;
        let size = self.byte_size(self.type_of(index, &member)?)?;
        (1..=8)
            .contains(&size)
            .then_some(Discriminant { offset, size })
    }

    fn member(
        &self,
        index: usize,
        unit: UnitRef<'_, Slice<'a>>,
        entry: &Entry<'a>,
    ) -> Option<Member> {
        Some(Member {
            name: string(unit, entry, dw::DW_AT_name)?,
            offset: number(&entry.attr_value(dw::DW_AT_data_member_location)?)?,
            of_type: self.type_of(index, entry),
            location: location(unit, entry),
        })
    }

    fn byte_size(&self, (index, offset): Place) -> Option<u64> {
        let unit = self.dwarf.unit(*self.headers.get(index)?).ok()?;
        let entry = unit.entry(offset).ok()?;
        number(&entry.attr_value(dw::DW_AT_byte_size)?)
    }

    /// The type of an entry of the unit `index`. Link-time optimisation leaves it in another unit.
    fn type_of(&self, index: usize, entry: &Entry<'a>) -> Option<Place> {
        match entry.attr_value(dw::DW_AT_type)? {
            AttributeValue::UnitRef(offset) => Some((index, offset)),
            AttributeValue::DebugInfoRef(offset) => self.elsewhere(offset),
            _ => None,
        }
    }

    /// A type of another unit.
    fn elsewhere(&self, offset: gimli::DebugInfoOffset) -> Option<Place> {
        let begins = |header: &UnitHeader<Slice<'a>>| header.debug_info_offset();
        let after = self
            .headers
            .partition_point(|header| begins(header).is_some_and(|begins| begins.0 <= offset.0));
        let index = after.checked_sub(1)?;
        Some((index, offset.to_unit_offset(&self.headers[index])?))
    }
}

fn number(value: &AttributeValue<Slice<'_>>) -> Option<u64> {
    value
        .udata_value()
        .or_else(|| value.sdata_value().map(i64::cast_unsigned))
}
