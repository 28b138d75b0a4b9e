//! A long list that is read page by page and printed as it comes: as a table, as CSV, or as a JSON object a line.

use serde::Serialize;

use super::CommandContext;
use super::render::{self, Table};
use crate::acts::ActFailure;

/// A list on its way out.
pub(super) struct Listing<'h> {
    form: ListingForm<'h>,
    empty: bool,
}

enum ListingForm<'h> {
    Csv,
    Json,
    Table(Table<'h>),
}

impl<'h> Listing<'h> {
    /// With the columns of the table, and the first record of CSV if that is asked for.
    pub(super) fn begin(
        context: &CommandContext,
        columns: &'h [&'h str],
        csv: Option<Vec<u8>>,
    ) -> Self {
        let form = if let Some(head) = csv {
            render::raw(&head);
            ListingForm::Csv
        } else if context.json {
            ListingForm::Json
        } else {
            ListingForm::Table(Table::new(columns, &[]).spilling())
        };
        Self { form, empty: true }
    }

    /// One line, as it is asked for.
    pub(super) fn line<T: Serialize>(
        &mut self,
        line: T,
        csv: impl FnOnce(&T) -> Result<Vec<u8>, ActFailure>,
        cells: impl FnOnce(T) -> Vec<String>,
    ) -> Result<(), ActFailure> {
        self.empty = false;
        match &mut self.form {
            ListingForm::Csv => {
                render::raw(&csv(&line)?);
            }
            ListingForm::Json => render::json(&line),
            ListingForm::Table(table) => table.row(cells(line)),
        }
        Ok(())
    }

    /// The end; `nothing` is said where no line came.
    pub(super) fn end(self, nothing: &str) {
        if let ListingForm::Table(table) = self.form {
            table.end();
            if self.empty {
                render::talk(nothing);
            }
        }
    }
}
