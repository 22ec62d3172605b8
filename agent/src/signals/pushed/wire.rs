//! Protocol buffers, field by field, without building messages.
//!
//! A decoder that builds whole messages turns two bytes on the wire into a hundred in memory; a body of some megabytes
//! could then fill the machine. Here nothing is allocated: who reads decides what is kept, and stops at its bounds.

/// A field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    /// An integer: plain, or to be read as zigzag by who knows.
    Varint(u64),
    /// Eight bytes.
    Eight([u8; 8]),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Four([u8; 4]),
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It ends in the middle.
    #[error("it ends in the middle of a field")]
    Cut,
    /// An integer of more than ten bytes, or a field of number 0.
    #[error("it holds something that is no protocol buffer")]
    Garbage,
    /// A field of another kind than its number has.
    #[error("field {0} is of another kind than it must be")]
    Kind(u32),
}

/// The fields of a message, in the order in which they stand.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Cut)
    }

    fn field(&mut self) -> Result<(u32, Field<'a>), Malformed> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0).ok_or(Malformed::Garbage)?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Eight(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Cut)?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Four(self.array()?),
            _ => return Err(Malformed::Garbage),
        };
        Ok((number, field))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for place in 0..10 {
            let [byte] = self.array()?;
            // The tenth byte has room for one bit.
            if place == 9 && byte > 1 {
                return Err(Malformed::Garbage);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Garbage)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// Bytes, a text or a message. `number` is the field's, for the error.
    pub(super) fn bytes(self, number: u32) -> Result<&'a [u8], Malformed> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::Kind(number)),
        }
    }
    /// An integer.
    pub(super) fn varint(self, number: u32) -> Result<u64, Malformed> {
        match self {
            Field::Varint(value) => Ok(value),
            _ => Err(Malformed::Kind(number)),
        }
    }
    /// A signed integer as `int64` and `int32` write it.
    pub(super) fn signed(self, number: u32) -> Result<i64, Malformed> {
        self.varint(number).map(u64::cast_signed)
    }
    /// A signed integer as `sint64` and `sint32` write it.
    pub(super) fn zigzag(self, number: u32) -> Result<i64, Malformed> {
        self.varint(number).map(unzigzag)
    }
    /// A `double`.
    pub(super) fn double(self, number: u32) -> Result<f64, Malformed> {
        match self {
            Field::Eight(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(Malformed::Kind(number)),
        }
    }
}

/// The numbers of a repeated field of integers, packed or one.
pub(super) fn varints(
    field: Field<'_>,
    number: u32,
) -> Result<impl Iterator<Item = Result<u64, Malformed>>, Malformed> {
    let (packed, one) = match field {
        Field::Bytes(bytes) => (bytes, None),
        Field::Varint(value) => (&[][..], Some(Ok(value))),
        Field::Eight(_) | Field::Four(_) => return Err(Malformed::Kind(number)),
    };
    let mut fields = Fields(packed);
    let rest = std::iter::from_fn(move || {
        if fields.0.is_empty() {
            return None;
        }
        let next = fields.varint();
        if next.is_err() {
            fields.0 = &[];
        }
        Some(next)
    });
    Ok(one.into_iter().chain(rest))
}

/// The numbers of a repeated field of doubles, packed or one.
pub(super) fn doubles<'a>(
    field: Field<'a>,
    number: u32,
) -> Result<impl Iterator<Item = f64> + use<'a>, Malformed> {
    let (packed, one) = match field {
        Field::Bytes(bytes) if bytes.len() % 8 == 0 => (bytes, None),
        Field::Bytes(_) => return Err(Malformed::Cut),
        Field::Eight(bytes) => (&[][..], Some(f64::from_le_bytes(bytes))),
        Field::Varint(_) | Field::Four(_) => return Err(Malformed::Kind(number)),
    };
    let (eights, _none) = packed.as_chunks::<8>();
    Ok(one.into_iter().chain(eights.iter().map(|eight| f64::from_le_bytes(*eight))))
}

/// Back from the form in which small numbers stay short, whatever their sign.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Field<'_>)>, Malformed> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn fields_are_read_one_after_the_other() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
        let fields = read(&bytes).unwrap();
        assert_eq!(fields[0], (1, Field::Varint(150)));
        assert_eq!(fields[1].1.bytes(2), Ok(&b"hi"[..]));
        assert_eq!(fields[2].1.double(3), Ok(1.0));
        assert_eq!(fields[0].1.double(1), Err(Malformed::Kind(1)));
        assert_eq!([0, 1, 2, 3, u64::MAX].map(unzigzag), [0, -1, 1, -2, i64::MIN]);
    }

    #[test]
    fn what_is_cut_or_garbage_says_so() {
        for cut in [&[0x08][..], &[0x12, 0x05, 1], &[0x19, 0, 0], &[0x80], &[0x0d, 1]] {
            assert_eq!(read(cut), Err(Malformed::Cut), "{cut:?}");
        }
        for garbage in
            [&[0x00, 0x01][..], &[0x0b], &[0xff; 11], &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]]
        {
            assert_eq!(read(garbage), Err(Malformed::Garbage), "{garbage:?}");
        }
    }
}
