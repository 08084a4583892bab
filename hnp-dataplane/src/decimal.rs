//! Numbers in decimal, for what is written for every request. The standard library's formatter takes several times as long.

/// Adds `number` to `out`.
pub(crate) fn push(out: &mut Vec<u8>, mut number: u64) {
    // As many digits as the largest number has.
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for number in [0, 7, 10, 99, 100, 1_234_567_890, u64::MAX - 1, u64::MAX] {
            let mut out = b"is ".to_vec();
            super::push(&mut out, number);
            assert_eq!(out, format!("is {number}").as_bytes());
        }
    }
}
