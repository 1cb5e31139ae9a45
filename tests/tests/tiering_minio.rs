//! Tiering against MinIO, the real S3 of the tests: make ready, fence, read back, verify, recover.
//!
//! What only a real server can show: that it honours conditional writes, that its errors are told apart, that large
//! objects go in parts. The fault matrix runs over a store in memory, inside the crate `tiering`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use tests::minio::{ACCESS_KEY, Minio, REGION, SECRET_KEY};
use tiering::cluster_record::ClusterIdentity;
use tiering::store::{PutOutcome, Secret, Store, StoreKey, StoreUrl, list_all, open_store, read_range};
use tiering::{OpenTierError, Tier, TierOptions};

fn url(minio: &Minio, place: &str) -> anyhow::Result<StoreUrl> {
    let mut url: StoreUrl = place.parse()?;
    url.endpoint = Some(minio.endpoint());
    url.region = Some(REGION.to_owned());
    url.credentials = Some((ACCESS_KEY.to_owned(), Secret::new(SECRET_KEY)));
    Ok(url)
}

fn identity(cluster_id: &str, fresh: bool) -> ClusterIdentity {
    ClusterIdentity {
        cluster_id: cluster_id.to_owned(),
        cluster_name: "west".to_owned(),
        recovery_generation: 0,
        fresh,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_keeps_every_promise_that_the_tier_rests_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let minio = Minio::start(folder.path().to_owned())?;
    let lake = url(&minio, "s3://lake/prod")?;

    // Without its bucket the store is refused with the verb that makes it.
    let missing = Tier::open(TierOptions::new(lake.clone(), identity("one", true))).await.err();
    let missing = missing.context("a bucket that is not there was accepted")?;
    ensure!(missing.to_string().contains("longhaul tier init"), "{missing}");

    let first = tiering::admin::init(&lake).await?;
    ensure!(first.created && first.conditional_put && first.rights.len() == 5, "{first:?}");
    ensure!(!tiering::admin::init(&lake).await?.created, "the bucket was made twice");

    let store = open_store(&lake)?;
    racing_creates_have_one_winner(&store).await?;
    parts_make_one_object(&store).await?;

    // One prefix, one cluster; a wrong key is told apart from silence.
    let tier = Tier::open(TierOptions::new(lake.clone(), identity("one", true))).await?;
    tier.close().await;
    let in_use = Tier::open(TierOptions::new(lake.clone(), identity("two", true))).await.err();
    ensure!(matches!(in_use, Some(OpenTierError::InUse { .. })), "{in_use:?}");
    let mut wrong = lake.clone();
    wrong.credentials = Some((ACCESS_KEY.to_owned(), Secret::new("wrong")));
    let denied = Tier::open(TierOptions::new(wrong, identity("one", false))).await.err();
    ensure!(
        matches!(&denied, Some(OpenTierError::Unusable { detail, .. }) if detail.contains("denies")),
        "{denied:?}"
    );
    Ok(())
}

async fn racing_creates_have_one_winner(store: &Arc<dyn Store>) -> anyhow::Result<()> {
    for round in 0..20 {
        let key = StoreKey::new(format!("race/{round}"));
        let tries = (0..8).map(|racer| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                let body = vec![Bytes::from(format!("racer {racer}"))];
                matches!(store.put_if_absent(&key, body).await, PutOutcome::Created)
            })
        });
        let mut winners = 0;
        for created in tries.collect::<Vec<_>>() {
            winners += usize::from(created.await?);
        }
        ensure!(winners == 1, "round {round}: {winners} racers created the same key");
    }
    ensure!(list_all(&**store, "race").await?.len() == 20);
    Ok(())
}

async fn parts_make_one_object(store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let key = StoreKey::new("parts/large");
    let mut upload = store.start_parts(&key).await?;
    let part = Bytes::from(vec![7u8; 6 << 20]);
    for _ in 0..2 {
        upload.put_part(vec![part.clone()]).await?;
    }
    upload.put_part(vec![Bytes::from_static(b"end")]).await?;
    ensure!(store.head(&key).await.is_err_and(|error| error.is_not_found()), "visible before it is complete");
    upload.complete().await?;
    let size = store.head(&key).await?;
    ensure!(size == (12 << 20) + 3);
    ensure!(read_range(&**store, &key, size - 4..size).await? == Bytes::from_static(b"\x07end"));
    store.delete(&key).await?;
    store.delete(&key).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_dies_is_unavailable_and_comes_back() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut minio = Minio::start(folder.path().to_owned())?;
    let lake = url(&minio, "s3://lake")?;
    tiering::admin::init(&lake).await?;
    Tier::open(TierOptions::new(lake.clone(), identity("one", true))).await?.close().await;
    minio.kill9()?;
    let fresh = Tier::open(TierOptions::new(lake.clone(), identity("two", true))).await.err();
    ensure!(matches!(fresh, Some(OpenTierError::Unavailable { .. })), "{fresh:?}");
    // A folder that is not new starts without it, and connects when it is back.
    let tier = Tier::open(TierOptions::new(lake, identity("one", false))).await?;
    ensure!(matches!(tier.status().state, tiering::TierState::Connecting { .. }));
    minio.restart()?;
    for _ in 0..600 {
        if tier.status().state == tiering::TierState::Ready {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the tier did not connect again: {:?}", tier.status().state)
}
