//! Bits of an H.264 stream: fixed and Exp-Golomb codes (ITU-T H.264 clause 9.1), and the
//! wrapping of a payload into a NAL unit (clause 7.4.1).

/// Bits in the order of the stream.
#[derive(Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used of the last byte, 0 when it is full or there is none.
    used: u32,
}

impl BitWriter {
    /// The lowest `count` bits of `value`, the highest of them first.
    pub fn bits(&mut self, value: u32, count: u32) {
        for place in (0..count).rev() {
            self.bit(value >> place & 1 == 1);
        }
    }

    /// One bit.
    pub fn bit(&mut self, set: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if set && let Some(last) = self.bytes.last_mut() {
            *last |= 0x80 >> self.used;
        }
        self.used = (self.used + 1) % 8;
    }

    /// `ue(v)`: an unsigned Exp-Golomb code.
    pub fn unsigned(&mut self, value: u32) {
        let code = value + 1;
        let length = u32::BITS - code.leading_zeros();
        self.bits(0, length - 1);
        self.bits(code, length);
    }

    /// `se(v)` of nought, the only signed value that is needed.
    pub fn signed_zero(&mut self) {
        self.unsigned(0);
    }

    /// Noughts up to the next whole byte.
    pub fn align(&mut self) {
        self.used = 0;
    }

    /// Whole bytes; only after [`BitWriter::align`].
    pub fn raw(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.used, 0);
        self.bytes.extend_from_slice(bytes);
    }

    /// Ends the payload (`rbsp_trailing_bits`) and makes a NAL unit with this first byte: no
    /// start code, but emulation of one prevented.
    pub fn into_nal_unit(mut self, first_byte: u8) -> Vec<u8> {
        self.bit(true);
        self.align();
        let mut unit = Vec::with_capacity(self.bytes.len() + 16);
        unit.push(first_byte);
        let mut noughts = 0;
        for byte in self.bytes {
            if noughts == 2 && byte <= 3 {
                unit.push(3);
                noughts = 0;
            }
            noughts = if byte == 0 { noughts + 1 } else { 0 };
            unit.push(byte);
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_of_the_standard() {
        let mut writer = BitWriter::default();
        // 1, 010, 011, 00100, 0001000: table 9-2.
        for value in [0, 1, 2, 3, 7] {
            writer.unsigned(value);
        }
        // 1 010 011 0|0100 0001|000 1 0000
        assert_eq!(writer.into_nal_unit(9), [9, 0b1010_0110, 0b0100_0001, 0b0001_0000]);
    }

    #[test]
    fn no_start_code_within() {
        let mut writer = BitWriter::default();
        writer.raw(&[0, 0, 0, 0, 0, 1, 0, 0, 4]);
        assert_eq!(writer.into_nal_unit(9), [9, 0, 0, 3, 0, 0, 3, 0, 1, 0, 0, 4, 0x80]);
    }
}
