//! Every path there is: the API's table of contents. Each noun has a file; each route says who handles it, what it takes and what
//! it answers.
//!
//! To add a route, add it to its noun's file as its neighbours are. It cannot be served undescribed, and the test-suite holds
//! every answer against what is said here.

mod analytics;
mod audit;
mod clients;
mod finance;
mod network;
mod operations;
mod products;
mod resellers;
mod wallets;

use super::describe::Routes;

/// All routes; the clock can be moved only where it is moved by hand.
pub(super) fn routes(manual_clock: bool) -> Routes {
    let routes = resellers::routes(Routes::default());
    let routes = wallets::routes(routes);
    let routes = clients::routes(routes);
    let routes = products::routes(routes);
    let routes = network::routes(routes);
    let routes = analytics::routes(routes);
    let routes = audit::routes(routes);
    let routes = finance::routes(routes);
    operations::routes(routes, manual_clock)
}
