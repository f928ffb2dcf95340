//! Call frame information without `DW_CFA_AARCH64_negate_ra_state`.
//!
//! That instruction says from where on a return address is signed. The signature is taken off every
//! return address anyhow, and framehop 0.16 knows no such instruction: it would give up the whole
//! entry. Sources: DWARF 5, section 6.4; "DWARF for the Arm 64-bit Architecture" (2024Q3), 4.3.

use std::collections::HashMap;

/// `DW_CFA_AARCH64_negate_ra_state_with_pc` and `DW_CFA_AARCH64_negate_ra_state`.
const NEGATE: [u8; 2] = [0x2c, 0x2d];
const NOP: u8 = 0;

/// The bytes of an `.eh_frame` with nothing in place of those instructions.
pub(in crate::unwind) fn without_signing(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut places = Vec::new();
    // By where it begins: how many bytes an address takes in the entries that name it.
    let mut common: HashMap<usize, Option<usize>> = HashMap::new();
    let mut at = 0;
    while let Some((start, end)) = entry(&bytes, at) {
        let mut reader = Reader {
            bytes: &bytes[..end],
            at: start,
        };
        let Some(id) = reader.u32() else { break };
        if id == 0 {
            let size = reader.common();
            common.insert(at, size);
            reader.instructions(size, &mut places);
        } else if let Some(size) = start
            .checked_sub(id as usize)
            .and_then(|of| common.get(&of).copied().flatten())
        {
            // The function's beginning and length, and what is added.
            let is_there = reader.skip(2 * size).and_then(|()| reader.block());
            if is_there.is_some() {
                reader.instructions(Some(size), &mut places);
            }
        }
        at = end;
    }
    for place in places {
        bytes[place] = NOP;
    }
    bytes
}

/// What the entry at a place holds behind its length; `None` at the end.
fn entry(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let len = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
    let start = at + 4;
    // 0 is the end; 0xffff_ffff would be a length of 64 bits, which no compiler writes.
    let end = start.checked_add(len).filter(|end| *end <= bytes.len())?;
    (len != 0).then_some((start, end))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        let word = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += 4;
        Some(u32::from_le_bytes(word))
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    /// A number in groups of seven bits; those with a sign take as many bytes.
    fn number(&mut self) -> Option<usize> {
        let (mut number, mut shift) = (0usize, 0);
        loop {
            let byte = self.u8()?;
            if shift < 56 {
                number |= usize::from(byte & 0x7f) << shift;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
    }

    fn block(&mut self) -> Option<()> {
        let len = self.number()?;
        self.skip(len)
    }

    /// Reads the head of a common entry up to its instructions; gives how many bytes an address
    /// takes in the entries that name it.
    fn common(&mut self) -> Option<usize> {
        let version = self.u8()?;
        let name_at = self.at;
        while self.u8()? != 0 {}
        let name = &self.bytes[name_at..self.at - 1];
        // Alignment of code and data; the register of return addresses.
        self.number()?;
        self.number()?;
        match version {
            1 => self.skip(1)?,
            _ => self.number().map(|_| ())?,
        }
        let (b'z', kinds) = name.split_first()? else {
            return None;
        };
        let len = self.number()?;
        let end = self.at.checked_add(len)?;
        let mut size = Some(8);
        for kind in kinds {
            match kind {
                b'R' => size = address_size(self.u8()?),
                b'L' => self.skip(1)?,
                b'P' => {
                    let encoding = self.u8()?;
                    self.skip(address_size(encoding)?)?;
                }
                b'S' | b'B' => {}
                _ => return None,
            }
        }
        self.at = end;
        size
    }

    /// Notes where the instructions of signed return addresses are. Stops at what it does not know.
    fn instructions(&mut self, address_size: Option<usize>, places: &mut Vec<usize>) {
        while let Some(opcode) = self.u8() {
            if NEGATE.contains(&opcode) {
                places.push(self.at - 1);
            } else if self.operands(opcode, address_size).is_none() {
                return;
            }
        }
    }

    fn operands(&mut self, opcode: u8, address_size: Option<usize>) -> Option<()> {
        match (opcode >> 6, opcode) {
            // advance_loc, restore; nop, remember_state, restore_state.
            (0b01 | 0b11, _) | (_, 0x00 | 0x0a | 0x0b) => Some(()),
            // offset.
            (0b10, _) => self.number().map(|_| ()),
            // set_loc; advance_loc1, 2 and 4.
            (_, 0x01) => self.skip(address_size?),
            (_, 0x02..=0x04) => self.skip(1 << (opcode - 2)),
            // restore_extended, undefined, same_value, def_cfa_register, def_cfa_offset and its
            // signed form, args_size.
            (_, 0x06..=0x08 | 0x0d | 0x0e | 0x13 | 0x2e) => self.number().map(|_| ()),
            // offset_extended, register, def_cfa, their signed forms, val_offset.
            (_, 0x05 | 0x09 | 0x0c | 0x11 | 0x12 | 0x14 | 0x15) => {
                self.number()?;
                self.number().map(|_| ())
            }
            // def_cfa_expression; expression, val_expression.
            (_, 0x0f) => self.block(),
            (_, 0x10 | 0x16) => {
                self.number()?;
                self.block()
            }
            _ => None,
        }
    }
}

/// How many bytes an address takes by its encoding. Source: Linux Standard Base Core 5.0, 10.5.1.
fn address_size(encoding: u8) -> Option<usize> {
    match encoding & 0x0f {
        0x00 | 0x04 | 0x0c => Some(8),
        0x02 | 0x0a => Some(2),
        0x03 | 0x0b => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_instruction_is_taken_out() {
        // A common entry: "zR", 1, -8, x30, pcrel sdata4; def_cfa sp 0.
        let mut bytes = vec![
            16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 4, 0x78, 30, 1, 0x1b, 0x0c, 31, 0,
        ];
        // advance_loc 1; negate; advance_loc1 0x2d; def_cfa_offset 0x2d; offset x29, 2; negate
        let start = bytes.len();
        let own = [0x41, 0x2d, 0x02, 0x2d, 0x0e, 0x2d, 0x9d, 2, 0x2d, 0, 0];
        bytes.extend((13 + own.len() as u32).to_le_bytes());
        bytes.extend((start as u32 + 4).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.push(0);
        bytes.extend(own);
        let mut wanted = bytes.clone();
        let at = start + 17;
        (wanted[at + 1], wanted[at + 8]) = (0, 0);
        assert_eq!(without_signing(bytes), wanted);
    }
}
