//! What somebody does who changes the events of a folder and knows how they are checked: computes
//! their checksums again.

use sqlx::SqliteConnection;

type Event = (i64, i64, i64, i64, i64, String, String, String, String);

/// Writes the checksum of each event as it is now.
pub async fn write(folder: &mut SqliteConnection) {
    let text = "SELECT shard, pos, seq, version, at, entity, kind, cause, data FROM event";
    let events: Vec<Event> = sqlx::query_as(text).fetch_all(&mut *folder).await.unwrap();
    for (shard, pos, seq, version, at, entity, kind, cause, data) in events {
        let mut sum = crc32fast::Hasher::new();
        for number in [shard, pos, seq, version, at] {
            sum.update(&number.to_le_bytes());
        }
        for text in [entity, kind, cause, data] {
            sum.update(text.as_bytes());
            sum.update(&[0xff]);
        }
        let set = sqlx::query("UPDATE event SET sum = $1 WHERE pos = $2");
        let sum = i64::from(sum.finalize());
        set.bind(sum).bind(pos).execute(&mut *folder).await.unwrap();
    }
}
