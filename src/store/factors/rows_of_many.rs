//! Statements over many rows at once, in a few lengths: each length is prepared once.

/// Lengths that statements have.
const LENGTHS: [usize; 5] = [1, 4, 16, 64, 256];

/// Rows of the longest statement.
pub(super) const MOST: usize = 256;

/// The length of the statement for so many rows, at most [`MOST`].
pub(super) fn length(rows: usize) -> usize {
    LENGTHS
        .into_iter()
        .find(|length| *length >= rows)
        .unwrap_or(MOST)
}

/// `($1, $2), ($3, $4)`: so many rows of so many columns.
pub(super) fn values(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 5);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let place = row * columns + column + 1;
            text.push_str(&if column == 0 {
                format!("${place}")
            } else {
                format!(", ${place}")
            });
        }
        text.push(')');
    }
    text
}

/// The items, and the last one again until there are so many. Nothing of nothing.
pub(super) fn filled<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let length = if items.is_empty() {
        0
    } else {
        length(items.len())
    };
    items
        .iter()
        .chain(items.last().into_iter().cycle())
        .take(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_few_and_the_last_row_fills_them() {
        assert_eq!(values(2, 3), "($1, $2, $3), ($4, $5, $6)");
        for (n, wanted) in [
            (1, 1),
            (2, 4),
            (4, 4),
            (5, 16),
            (17, 64),
            (64, 64),
            (65, 256),
        ] {
            assert_eq!(length(n), wanted);
            let items: Vec<usize> = (0..n).collect();
            let all: Vec<usize> = filled(&items).copied().collect();
            assert_eq!((all.len(), all[n - 1]), (wanted, n - 1));
            assert!(all[n..].iter().all(|item| *item == n - 1));
        }
        assert_eq!(filled::<u8>(&[]).count(), 0);
    }
}
