//! The lines of a plan, a page at a time: nobody holds all of a million.

use crate::model::{Change, IdForm, Run};
use crate::store::{Store, StoreError};

/// Lines read at once.
const PAGE: i64 = 200;

/// What a plan would change, in its order. That of a dry run is gone with this.
#[derive(Debug)]
pub struct Lines(Option<Box<LineSource>>);

#[derive(Debug)]
struct LineSource {
    store: Store,
    run: Run,
    of: LinesOf,
    after: i64,
}

#[derive(Clone, Copy, Debug)]
enum LinesOf {
    /// A run that the store knows.
    Kept,
    /// A dry run.
    Dry,
    /// A dry first pass, whose staged users are its lines.
    DryFirst(IdForm),
}

impl Lines {
    /// No lines.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Those of a run in the store.
    pub(crate) fn of_kept(store: Store, run: Run) -> Self {
        Self::new(store, run, LinesOf::Kept)
    }

    /// Those of a dry run, from the store of its own; `first`: a first pass, and how the directory prints its ids.
    pub(crate) fn of_dry(store: Store, run: Run, first: Option<IdForm>) -> Self {
        Self::new(store, run, first.map_or(LinesOf::Dry, LinesOf::DryFirst))
    }

    fn new(store: Store, run: Run, of: LinesOf) -> Self {
        Self(Some(Box::new(LineSource {
            store,
            run,
            of,
            after: 0,
        })))
    }

    /// The next page; an empty one is the end.
    pub async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let Some(source) = self.0.as_deref_mut() else {
            return Ok(vec![]);
        };
        let LineSource {
            store,
            run,
            of,
            after,
        } = source;
        let page = match *of {
            LinesOf::Kept => store.changes(run.run, *after, PAGE).await,
            LinesOf::Dry => store.written(run.run, *after, PAGE).await,
            LinesOf::DryFirst(form) => store.first_plan(run, form, *after, PAGE).await,
        }?;
        *after = page.last().map_or(*after, |last| last.seq);
        Ok(page)
    }
}
