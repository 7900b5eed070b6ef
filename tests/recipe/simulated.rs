//! Gift cards in the simulator: they hold whatever goes wrong, and a fault that is put into them is
//! found. This is compiled into the library's own tests, which have the simulator.

use kontor::actors::nouns::{self, NounEntry};
use kontor::actors::{read_models, row_kinds};
use kontor::seeded_fault;
use kontor::simulate::{Setup, SimulationPlan, run_with};
use kontor::verify::Books;

use self::gift_card::actors::gift_card_rows::GiftCardRows;
use self::gift_card::domain::gift_card::{FORGETS_ORDERS, GiftCard};
use self::gift_card::verify::gift_card::book;
use self::story::CardHolder;

#[path = "gift_card/src/mod.rs"]
pub mod gift_card;
#[path = "gift_card/src/simulate/gift_card.rs"]
pub mod story;

/// How many seeds are run.
const SEEDS: u64 = 9;
/// How many seeds the fault may take.
const HUNT_MAX: u64 = 50;

fn setup() -> Setup {
    Setup {
        nouns: || nouns::all().with(NounEntry::<GiftCard>::without_flow()),
        rows: row_kinds::all,
        projections: || read_models::all().with_live(GiftCardRows),
        books: || Books::standard().with(book()),
        stories: vec![CardHolder::draw],
    }
}

#[test]
fn gift_cards_hold_whatever_goes_wrong() {
    for seed in 1..=SEEDS {
        let plan = SimulationPlan::draw(seed);
        let outcome = run_with(&setup(), &plan, true);
        assert_eq!(outcome.violation, None, "seed {seed}\n{}", outcome.story.join("\n"));
        assert!(outcome.story.iter().any(|line| line.contains("card 0")), "seed {seed}");
        if seed == 1 {
            assert_eq!(run_with(&setup(), &plan, false).trace, outcome.trace);
        }
    }
}

#[test]
fn a_fault_in_gift_cards_is_found() {
    seeded_fault::set_active_by_name(Some(FORGETS_ORDERS));
    let found = (1..=HUNT_MAX)
        .find_map(|seed| run_with(&setup(), &SimulationPlan::draw_alone(seed), false).violation);
    seeded_fault::set_active_by_name(None);
    let found = found.expect("it was not found");
    assert!(found.what.contains("gift_"), "{found:?}");
}
