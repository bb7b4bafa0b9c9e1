//! Commands of the catalog: the platform's alone.

use crate::answer::Answer;
use crate::command::Command;
use crate::primitives::Sku;
use crate::product::{Product, ProductCommand, ProductTerms};
use crate::rejection::Rejection;

use super::draft::{Decided, Draft};

impl Draft<'_> {
    pub(super) fn decide_product(&mut self, command: &Command) -> Decided<Answer> {
        self.platform_only()?;
        let (sku, command) = match command {
            Command::PublishProduct { sku, terms } => {
                (sku, ProductCommand::Publish { sku: sku.clone(), terms: terms.clone() })
            }
            Command::ReviseProduct { sku, terms } => (sku, ProductCommand::Revise { terms: terms.clone() }),
            Command::RetireProduct { sku } => (sku, ProductCommand::Retire),
            _ => return Err(Rejection::not_found("command").into()),
        };
        self.order::<Product>(sku, &command)?;
        self.product_answer(sku)
    }

    /// The terms of a product that is on sale.
    pub(super) fn product_on_sale(&self, sku: &Sku) -> Decided<&ProductTerms> {
        let product = self.get::<Product>(sku)?;
        match &product.terms {
            None => Err(Rejection::not_found("product").into()),
            Some(_) if product.retired => Err(Rejection::ProductRetired { sku: sku.to_string() }.into()),
            Some(terms) => Ok(terms),
        }
    }
}
