//! What is kept, published, refreshed and forgotten.

use super::super::*;
use super::*;

#[tokio::test]
async fn the_second_answer_is_the_kernels_and_the_third_the_caches() {
    let house = House::new();
    let first = house.ask(&q("www.test", 1)).await;
    assert_eq!(first.message().answers.len(), 1);
    assert_eq!(house.asked(), 1);
    assert!(house.in_kernel("www.test", 1).is_some());
    assert_eq!(house.ask_now(&q("www.test", 1)).unwrap(), first.reply());
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn every_reply_is_counted_by_who_had_the_answer() {
    let house = House::new();
    let count =
        |by| house.metrics.queries(crate::metrics::Transport::Udp, by, Rcode::NoError).get();
    house.ask(&q("www.test", 1)).await;
    house.ask(&q("www.test", 1)).await;
    house.ask(&q("www.home.test", 1)).await;
    house.ask(&q("any.test", 255)).await;
    assert_eq!(
        [AnsweredBy::Upstream, AnsweredBy::Cache, AnsweredBy::Local, AnsweredBy::Daemon].map(count),
        [1; 4]
    );
}
