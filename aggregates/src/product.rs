//! The Product aggregate: what can be provisioned, from which tier on, and at which base cost. Its identity is its SKU.

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

use crate::primitives::{Level, Percent, Sku, Text, Tier};
use crate::rejection::Rejection;

/// What is said of a product when it is published or revised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProductTerms {
    /// What people call it.
    pub name: Text,
    /// The cost of one unit before any discount; may be 0.
    pub base_cost: Level,
    /// The lowest tier that may sell it.
    pub minimum_tier: Tier,
    /// The least that a parent adds to its own cost when it sets a price for a child.
    pub minimum_margin_percent: Percent,
}

/// What can be asked of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductCommand {
    /// Put it on sale.
    Publish {
        /// Its identity.
        sku: Sku,
        /// Its terms.
        terms: ProductTerms,
    },
    /// Change its terms.
    Revise {
        /// The new terms, whole.
        terms: ProductTerms,
    },
    /// Take it off sale for good.
    Retire,
}

/// What has happened to a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProductEvent {
    /// It went on sale.
    ProductPublished {
        /// Its identity.
        sku: Sku,
        /// Its terms.
        #[serde(flatten)]
        terms: ProductTerms,
    },
    /// Its base cost changed, and maybe its other terms.
    ProductRepriced {
        /// The base cost before.
        former_base_cost: Level,
        /// The terms from here on.
        #[serde(flatten)]
        terms: ProductTerms,
    },
    /// Its terms changed, its base cost did not.
    ProductRevised {
        /// The terms from here on.
        #[serde(flatten)]
        terms: ProductTerms,
    },
    /// It went off sale.
    ProductRetired {},
}

crate::event::domain_event!(ProductEvent { ProductPublished, ProductRepriced, ProductRevised, ProductRetired });

/// A product. `terms` is `None` before publication.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its terms.
    pub terms: Option<ProductTerms>,
    /// Whether it went off sale.
    pub retired: bool,
}

impl Product {
    /// # Errors
    /// `already_exists`, `not_found` or `product_retired`.
    pub fn decide(&self, command: &ProductCommand) -> Result<Vec<ProductEvent>, Rejection> {
        match (command, &self.terms) {
            (ProductCommand::Publish { sku, terms }, None) => {
                Ok(vec![ProductEvent::ProductPublished { sku: sku.clone(), terms: terms.clone() }])
            }
            (ProductCommand::Publish { sku, .. }, Some(_)) => {
                Err(Rejection::AlreadyExists { what: format!("product {sku}") })
            }
            (_, None) => Err(Rejection::not_found("product")),
            (ProductCommand::Revise { .. }, Some(_)) if self.retired => {
                Err(Rejection::transition("the product", "retired", "revised"))
            }
            (ProductCommand::Revise { terms }, Some(current)) if terms == current => Ok(Vec::new()),
            (ProductCommand::Revise { terms }, Some(current)) if terms.base_cost == current.base_cost => {
                Ok(vec![ProductEvent::ProductRevised { terms: terms.clone() }])
            }
            (ProductCommand::Revise { terms }, Some(current)) => {
                Ok(vec![ProductEvent::ProductRepriced { former_base_cost: current.base_cost, terms: terms.clone() }])
            }
            (ProductCommand::Retire, Some(_)) if self.retired => {
                Err(Rejection::transition("the product", "retired", "retired"))
            }
            (ProductCommand::Retire, Some(_)) => Ok(vec![ProductEvent::ProductRetired {}]),
        }
    }

    /// Folds one event.
    pub fn fold(&mut self, event: &ProductEvent) {
        match event {
            ProductEvent::ProductPublished { terms, .. }
            | ProductEvent::ProductRepriced { terms, .. }
            | ProductEvent::ProductRevised { terms } => self.terms = Some(terms.clone()),
            ProductEvent::ProductRetired {} => self.retired = true,
        }
    }
}

crate::event::cqrs_aggregate!(Product, "Product", ProductCommand, ProductEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_es::test::TestFramework;

    fn sku() -> Sku {
        Sku::new("pro-license").expect("sku")
    }

    fn terms(base_cost: i64) -> ProductTerms {
        ProductTerms {
            name: Text::new("Pro license").expect("text"),
            base_cost: Level::new(base_cost).expect("level"),
            minimum_tier: Tier::Standard,
            minimum_margin_percent: Percent::default(),
        }
    }

    fn published() -> Vec<ProductEvent> {
        vec![ProductEvent::ProductPublished { sku: sku(), terms: terms(1000) }]
    }

    #[test]
    fn a_product_is_published_once() {
        TestFramework::<Product>::with(())
            .given_no_previous_events()
            .when(ProductCommand::Publish { sku: sku(), terms: terms(1000) })
            .then_expect_events(published());
        TestFramework::<Product>::with(())
            .given(published())
            .when(ProductCommand::Publish { sku: sku(), terms: terms(1) })
            .then_expect_error(Rejection::AlreadyExists { what: "product pro-license".into() });
    }

    #[test]
    fn a_new_base_cost_is_a_repricing_and_says_what_it_was() {
        TestFramework::<Product>::with(())
            .given(published())
            .when(ProductCommand::Revise { terms: terms(1200) })
            .then_expect_events(vec![ProductEvent::ProductRepriced {
                former_base_cost: Level::new(1000).expect("level"),
                terms: terms(1200),
            }]);
    }

    #[test]
    fn a_retired_product_stays_retired() {
        let mut given = published();
        given.push(ProductEvent::ProductRetired {});
        TestFramework::<Product>::with(())
            .given(given)
            .when(ProductCommand::Revise { terms: terms(1) })
            .then_expect_error(Rejection::transition("the product", "retired", "revised"));
    }
}
