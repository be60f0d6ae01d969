//! Routes: the conditions on a request, and the action for a request that meets the conditions.
//!
//! LoadX compiles a [`RouteTable`] once from the config. A match takes the same time for one host and for a hundred
//! thousand hosts. Routes match the path in the form that the backend gets; see [`path`]. [`decide()`] gives the
//! verdict on a request.

pub mod access;
mod action;
mod asked;
mod decide;
pub mod expression;
pub mod path;
mod rules;
mod table;
mod template;

pub use access::Access;
pub use action::{Action, Forward, Redirect, Respond, Route, Share};
pub use asked::{Asked, Fields};
pub use decide::{
    DashboardFile, DashboardPart, Decided, Endpoint, Forwarded, Request, Verdict, decide, put_response_lines,
    redirect_to_https,
};
pub use rules::{FieldEdits, FieldRule, Mismatch, PathRule, QueryRule, Rewrite, Rules};
pub use table::{Match, PREFIX_SEGMENTS_MAX, RouteTable};
pub use template::{Piece, Template, TemplateFault, Values, Variable, Variables};

#[cfg(test)]
mod tests;
