use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::SOA;

use super::super::answer::reply;
use super::super::sample::question;
use super::*;

fn servers() -> Rc<[IpAddr]> {
    Rc::from([IpAddr::from([192, 0, 2, 1])])
}

fn answered(question: &Message, ttl: u32) -> Message {
    let mut answer = reply(question, ResponseCode::NoError);
    let name = question.queries[0].name().clone();
    for (last, more) in [(1, 0), (2, 5)] {
        answer.add_answer(Record::from_rdata(
            name.clone(),
            ttl + more,
            RData::A(std::net::Ipv4Addr::new(192, 0, 2, last).into()),
        ));
    }
    answer
}

fn put(cache: &mut Cache, question: &Message, answer: &Message, now: Instant) {
    let key = CacheKey::of(question, &servers()).unwrap();
    cache.put(key, answer, &answer.to_vec().unwrap(), now);
}

fn get(cache: &Cache, question: &Message, now: Instant) -> Option<Message> {
    cache.get(&CacheKey::of(question, &servers()).unwrap(), question, now)
}

#[test]
fn an_answer_is_kept_for_as_long_as_it_says() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let asked = question("Example.org.", RecordType::A);
    put(&mut cache, &asked, &answered(&asked, 30), now);
    let mut again = question("eXample.org.", RecordType::A);
    again.metadata.id = 7;
    let kept = get(&cache, &again, now + Duration::from_secs(10)).unwrap();
    assert_eq!(kept.metadata.id, 7);
    assert_eq!(kept.queries[0].name().to_ascii(), "eXample.org.", "in the spelling of who asks");
    assert_eq!(kept.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [20, 25]);
    assert!(get(&cache, &again, now + Duration::from_secs(30)).is_none());
    assert!(get(&cache, &question("example.org.", RecordType::AAAA), now).is_none());
    let key = CacheKey::of(&asked, &Rc::from([IpAddr::from([192, 0, 2, 2])])).unwrap();
    assert!(cache.get(&key, &asked, now).is_none(), "another server may say another thing");
}

#[test]
fn what_is_not_there_is_kept_as_its_zone_says_and_failures_are_not() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let asked = question("none.example.org.", RecordType::A);
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NXDomain, ResponseCode::NoError]
    {
        put(&mut cache, &asked, &reply(&asked, code), now);
        assert!(get(&cache, &asked, now).is_none(), "{code}: nobody said for how long");
    }
    let mut truncated = answered(&asked, 30);
    truncated.metadata.truncation = true;
    put(&mut cache, &asked, &truncated, now);
    put(&mut cache, &asked, &answered(&asked, 0), now);
    assert_eq!(cache.len(), 0);
    let mut gone = reply(&asked, ResponseCode::NXDomain);
    let zone = hickory_proto::rr::Name::from_ascii("example.org.").unwrap();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 20);
    gone.add_authority(Record::from_rdata(zone, 3600, RData::SOA(soa)));
    put(&mut cache, &asked, &gone, now);
    assert!(get(&cache, &asked, now + Duration::from_secs(19)).is_some());
    assert!(get(&cache, &asked, now + Duration::from_secs(20)).is_none());
}

#[test]
fn a_flood_of_names_stays_within_bounds() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for number in 0..20_000 {
        let asked = question(&format!("n{number}.example.org."), RecordType::A);
        put(&mut cache, &asked, &answered(&asked, 30), now);
        // One that is asked all the time fills no queue.
        let again = question("again.example.org.", RecordType::A);
        put(&mut cache, &again, &answered(&again, 30), now);
        assert!(cache.len() <= MOST && cache.order.len() <= 2 * MOST && cache.bytes <= MOST_BYTES);
    }
    let bytes: usize = cache.kept.values().map(|kept| kept.bytes.len()).sum();
    assert_eq!(bytes, cache.bytes);
    assert!(get(&cache, &question("again.example.org.", RecordType::A), now).is_some());
    assert!(get(&cache, &question("n0.example.org.", RecordType::A), now).is_none());
    cache.clear();
    assert_eq!((cache.len(), cache.bytes), (0, 0));
}
