//! Parses CSV, JSON Lines or Online Retail files to rows for `POST /v1/admin/imports`.
//!
//! Deliberately not here: sending them (`mod.rs`). A faulty row is a value, not an error, so it
//! does not block the others.

use std::io::{BufRead, Read};

use kontor_client::FieldError;
use kontor_client::UnitPrice;
use kontor_client::api::{ImportRow, Product};
use kontor_client::money::currency_decimals;
use serde_json::Value;

use super::{csv_text, source};
use crate::online_retail;

/// The columns of a product.
pub const COLUMNS: [&str; 12] = [
    "sku",
    "name",
    "description",
    "category",
    "price",
    "currency",
    "tax_rate",
    "active",
    "location",
    "on_hand",
    "change_from",
    "on_hand_change",
];

/// The fields that a JSON null clears.
const CLEARABLE: [&str; 2] = ["description", "category"];

/// The most bytes of one row.
const ROW_MAX_BYTES: usize = 256 * 1024;

/// The format of a SKU; the server's message is the same.
const NO_SKU: &str =
    "must be 1 to 64 visible ASCII characters other than '/', single spaces inside allowed";

/// Whether the server accepts the text as a SKU.
fn is_sku(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.trim() == text
        && !text.contains("  ")
        && text.bytes().all(|byte| byte == b' ' || (byte.is_ascii_graphic() && byte != b'/'))
}

/// Whether the text is a tax rate: a fraction from 0 to 1 with at most six decimals.
fn is_tax_rate(text: &str) -> bool {
    let read = UnitPrice::from_major(text, "GBP");
    read.is_ok_and(|rate| (0..=100 * UnitPrice::SCALE).contains(&rate.raw()))
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object per line.
    Jsonl,
    /// Invoices of the UCI Online Retail data set: a product for every code that is sold.
    OnlineRetail,
}

impl FileFormat {
    /// Returns the format for a file name: JSON Lines for `.jsonl` and `.ndjson` (also with `.gz`),
    /// CSV for all others.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        if name.ends_with(".jsonl") || name.ends_with(".ndjson") { Self::Jsonl } else { Self::Csv }
    }
}

/// One row of the file.
#[derive(Clone, Debug)]
pub struct FileRow {
    /// Its line in the file, from 1.
    pub line: u64,
    /// The row to send, or all its faults.
    pub body: Result<ImportRow, Vec<FieldError>>,
}

/// The rows of a file, in its order.
pub type FileRows<'a> = Box<dyn Iterator<Item = Result<FileRow, source::Error>> + 'a>;

/// Parses `input`; rows without a location get `location`.
///
/// # Errors
/// [`source::Error`] if the file is unreadable, or has the wrong columns.
pub fn read<'a>(
    input: impl Read + 'a,
    format: FileFormat,
    location: &'a str,
) -> Result<FileRows<'a>, source::Error> {
    match format {
        FileFormat::Csv => csv_rows(input, location),
        FileFormat::Jsonl => jsonl_rows(input, location),
        FileFormat::OnlineRetail => {
            let catalog = online_retail::catalog(&online_retail::read(input)?);
            Ok(Box::new(catalog.into_iter().map(|implied| {
                let product = implied.product;
                let body = match is_sku(&product.sku) {
                    true => Ok(ImportRow { product, ..ImportRow::default() }),
                    false => Err(vec![fault("sku", NO_SKU.to_owned())]),
                };
                Ok(FileRow { line: implied.line, body })
            })))
        }
    }
}

fn csv_rows<'a>(input: impl Read + 'a, location: &'a str) -> Result<FileRows<'a>, source::Error> {
    let mut reader = csv_text::reader(input)?;
    let columns = columns(reader.byte_headers().map_err(source::Error::csv)?)?;
    let mut record = csv::ByteRecord::new();
    Ok(Box::new(std::iter::from_fn(move || match reader.read_byte_record(&mut record) {
        Err(error) => Some(Err(source::Error::csv(error))),
        Ok(false) => None,
        Ok(true) => {
            let line = csv_text::line(&reader, &record);
            Some(Ok(FileRow { line, body: csv_row(&record, &columns, location) }))
        }
    })))
}

fn columns(header: &csv::ByteRecord) -> Result<Vec<&'static str>, source::Error> {
    let right = || format!("columns are sku, and optionally {}", COLUMNS[1..].join(", "));
    let mut columns = Vec::new();
    for name in header {
        let name = String::from_utf8_lossy(name).trim().to_owned();
        let Some(known) = COLUMNS.into_iter().find(|column| *column == name) else {
            return Err(source::Error::Header(format!("unknown column {name:?}; {}", right())));
        };
        if columns.contains(&known) {
            return Err(source::Error::Header(format!("column {name:?} occurs twice")));
        }
        columns.push(known);
    }
    if !columns.contains(&"sku") {
        return Err(source::Error::Header(format!("column \"sku\" is missing; {}", right())));
    }
    Ok(columns)
}

fn csv_row(
    record: &csv::ByteRecord,
    columns: &[&'static str],
    location: &str,
) -> Result<ImportRow, Vec<FieldError>> {
    if record.len() != columns.len() {
        let message = format!("has {} fields, the header has {}", record.len(), columns.len());
        return Err(vec![fault("row", message)]);
    }
    if record.as_slice().len() > ROW_MAX_BYTES {
        return Err(vec![fault("row", format!("is longer than {ROW_MAX_BYTES} bytes"))]);
    }
    let mut fields = Fields::default();
    let mut faults = Vec::new();
    for (bytes, column) in record.iter().zip(columns) {
        match std::str::from_utf8(bytes) {
            Ok(text) => fields.set(column, text.to_owned()),
            Err(error) => faults.push(fault(column, source::not_utf8(error))),
        }
    }
    if faults.is_empty() { fields.row(location) } else { Err(faults) }
}

fn jsonl_rows<'a>(input: impl Read + 'a, location: &'a str) -> Result<FileRows<'a>, source::Error> {
    let mut reader = source::plain(input)?;
    let mut number = 0;
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            number += 1;
            let mut line = Vec::new();
            let limit = u64::try_from(ROW_MAX_BYTES).unwrap_or(u64::MAX) + 1;
            match (&mut reader).take(limit).read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(source::Error::read(error))),
                Ok(0) => return None,
                Ok(_) => {}
            }
            let body = if line.len() > ROW_MAX_BYTES {
                if let Err(error) = skip_line(&mut reader) {
                    return Some(Err(source::Error::read(error)));
                }
                Err(vec![fault("row", format!("is longer than {ROW_MAX_BYTES} bytes"))])
            } else if line.trim_ascii().is_empty() {
                continue;
            } else {
                jsonl_row(&line, location)
            };
            return Some(Ok(FileRow { line: number, body }));
        }
    })))
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn jsonl_row(line: &[u8], location: &str) -> Result<ImportRow, Vec<FieldError>> {
    let text =
        std::str::from_utf8(line).map_err(|error| vec![fault("row", source::not_utf8(error))])?;
    let object: serde_json::Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| vec![fault("row", format!("is not a JSON object: {error}"))])?;
    let mut fields = Fields::default();
    let mut faults = Vec::new();
    for (name, value) in object {
        let Some(column) = COLUMNS.into_iter().find(|column| *column == name) else {
            let message = format!("is unknown; fields are {}", COLUMNS.join(", "));
            faults.push(fault(&name, message));
            continue;
        };
        match value {
            Value::Null => fields.clear(column),
            Value::Bool(active) if column == "active" => fields.set(column, active.to_string()),
            Value::String(text) => fields.set(column, text),
            Value::Number(number) => fields.set(column, number.to_string()),
            _ => faults.push(fault(column, "must be a string or a number".to_owned())),
        }
    }
    if faults.is_empty() { fields.row(location) } else { Err(faults) }
}

fn fault(field: &str, message: String) -> FieldError {
    FieldError { field: field.to_owned(), message }
}

/// The fields of one row; an empty one counts as absent.
#[derive(Default)]
struct Fields {
    texts: [Option<String>; COLUMNS.len()],
    cleared: Vec<&'static str>,
}

impl Fields {
    fn set(&mut self, column: &str, text: String) {
        if let Some(place) = COLUMNS.iter().position(|known| *known == column) {
            self.texts[place] = Some(text).filter(|text| !text.trim().is_empty());
        }
    }

    /// Adds a null; in a field that cannot be cleared, it counts as absent.
    fn clear(&mut self, column: &'static str) {
        if CLEARABLE.contains(&column) {
            self.cleared.push(column);
        }
    }

    fn take(&mut self, column: &str) -> Option<String> {
        let place = COLUMNS.iter().position(|known| *known == column)?;
        self.texts[place].take().map(|text| text.trim().to_owned())
    }

    /// A text that can be cleared.
    fn take_clearable(&mut self, column: &str) -> Option<Option<String>> {
        if self.cleared.contains(&column) { Some(None) } else { self.take(column).map(Some) }
    }

    fn row(mut self, location: &str) -> Result<ImportRow, Vec<FieldError>> {
        let mut faults = Vec::new();
        let sku = self.take("sku").unwrap_or_default();
        if !is_sku(&sku) {
            faults.push(fault("sku", NO_SKU.to_owned()));
        }
        let name = self.take("name");
        if name.as_ref().is_some_and(|name| name.chars().count() > 200) {
            faults.push(fault("name", "must have 1 to 200 characters".to_owned()));
        }
        let (price, currency) = self.price(&mut faults);
        let tax_rate = self.take("tax_rate");
        if tax_rate.as_deref().is_some_and(|rate| !is_tax_rate(rate)) {
            let message = "must be a fraction from 0 to 1, for example 0.2".to_owned();
            faults.push(fault("tax_rate", message));
        }
        let active = self.take("active").map(|text| text.to_ascii_lowercase().parse::<bool>());
        if matches!(active, Some(Err(_))) {
            faults.push(fault("active", "must be true or false".to_owned()));
        }
        let on_hand = self.units("on_hand", 0, &mut faults);
        let change_from = self.units("change_from", 0, &mut faults);
        let on_hand_change = self.units("on_hand_change", i64::MIN, &mut faults);
        if on_hand.is_some() && on_hand_change.is_some() {
            faults.push(fault("on_hand_change", "must not be combined with on_hand".to_owned()));
        }
        if change_from.is_some() && on_hand.is_none() {
            faults.push(fault("change_from", "needs on_hand".to_owned()));
        }
        let at = self.take("location").unwrap_or_else(|| location.to_owned());
        if !faults.is_empty() {
            return Err(faults);
        }
        let product = Product {
            sku,
            name,
            description: self.take_clearable("description"),
            category: self.take_clearable("category"),
            prices: Vec::new(),
            tax_rate,
            active: active.and_then(Result::ok),
        };
        let location = on_hand.or(on_hand_change).map(|_| at);
        // A change of 0 counts as absent.
        let on_hand_change = on_hand_change.filter(|units| *units != 0);
        let row = ImportRow { product, price, currency, location, on_hand, ..Default::default() };
        Ok(ImportRow { change_from, on_hand_change, ..row })
    }

    /// A whole number of units, at least `min`.
    fn units(&mut self, column: &str, min: i64, faults: &mut Vec<FieldError>) -> Option<i64> {
        let units = self.take(column)?.parse::<i64>().ok().filter(|units| *units >= min);
        if units.is_none() {
            let from = if min == 0 { " from 0" } else { "" };
            faults.push(fault(column, format!("must be a whole number{from}")));
        }
        units
    }

    /// The price and its currency, as in the file. If the file has no currency, only the server
    /// knows the number of decimals.
    fn price(&mut self, faults: &mut Vec<FieldError>) -> (Option<String>, Option<String>) {
        let (price, currency) = (self.take("price"), self.take("currency"));
        let unknown = currency.as_deref().and_then(|code| currency_decimals(code).err());
        if let Some(error) = &unknown {
            faults.push(fault("currency", error.to_string()));
        }
        let named = currency.as_deref().filter(|_| unknown.is_none());
        if price.as_deref().is_some_and(|text| !is_price(text, named)) {
            let message = "must be an amount in major units, for example 2.55".to_owned();
            faults.push(fault("price", message));
        }
        let currency = currency.filter(|_| price.is_some());
        (price, currency)
    }
}

/// Whether it is a price in a currency, or a decimal number if the currency is unknown.
fn is_price(text: &str, currency: Option<&str>) -> bool {
    match currency {
        Some(code) => UnitPrice::from_major(text, code).is_ok_and(|price| price.raw() >= 0),
        None => {
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            !whole.is_empty() && [whole, part].concat().bytes().all(|byte| byte.is_ascii_digit())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], format: FileFormat) -> Vec<FileRow> {
        read(text, format, "main").unwrap().map(Result::unwrap).collect()
    }

    fn faults(row: &FileRow) -> Vec<String> {
        let faults = row.body.as_ref().unwrap_err();
        faults.iter().map(|f| format!("{} {}: {}", row.line, f.field, f.message)).collect()
    }

    #[test]
    fn columns_come_in_any_order() {
        let rows = all(
            "\u{feff}on_hand,name,price,sku\n5,Lamp,2.55,a\n,\"B, c\",,b\n".as_bytes(),
            FileFormat::Csv,
        );
        let first = rows[0].body.as_ref().unwrap();
        assert_eq!((first.product.sku.as_str(), first.on_hand), ("a", Some(5)));
        assert_eq!(first.location.as_deref(), Some("main"));
        assert_eq!((first.price.as_deref(), &first.currency), (Some("2.55"), &None));
        let second = rows[1].body.as_ref().unwrap();
        assert_eq!((second.product.name.as_deref(), &second.location), (Some("B, c"), &None));
        assert_eq!(second.price, None);
    }

    #[test]
    fn wrong_columns_are_refused_with_the_valid_ones() {
        for (header, want) in [
            ("sku,title\n", "unknown column \"title\"; columns are sku, and optionally name"),
            ("name,price\n", "column \"sku\" is missing; columns are sku, and optionally name"),
            ("sku,name,sku\n", "column \"sku\" occurs twice"),
        ] {
            let error = read(header.as_bytes(), FileFormat::Csv, "main").err().unwrap().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn all_faults_of_a_row_are_reported() {
        let text =
            b"sku,active,price,tax_rate,on_hand\n a/b ,on,-1,2,1.5\nx,y\nx,\xff,1,0,1\nz,TRUE,1,0,1\n";
        let rows = all(text, FileFormat::Csv);
        let fields: Vec<_> =
            rows[0].body.as_ref().unwrap_err().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["sku", "price", "tax_rate", "active", "on_hand"]);
        assert_eq!(faults(&rows[1]), ["3 row: has 2 fields, the header has 5"]);
        assert_eq!(faults(&rows[2]), ["4 active: is not UTF-8 at byte 1"]);
        assert_eq!(rows[3].body.as_ref().unwrap().product.active, Some(true));
    }

    #[test]
    fn absent_columns_are_not_sent() {
        let whole = Product { sku: "a".to_owned(), ..Product::default() };
        let csv =
            b"sku,name,description,category,price,currency,tax_rate,active,on_hand\na,,,,,,,,\n";
        let jsonl = b"{\"sku\":\"a\",\"name\":null,\"active\":null,\"category\":\"\"}\n";
        for (text, format) in [
            (&b"sku\na\n"[..], FileFormat::Csv),
            (csv, FileFormat::Csv),
            (jsonl, FileFormat::Jsonl),
        ] {
            let rows = all(text, format);
            let want = ImportRow { product: whole.clone(), ..ImportRow::default() };
            assert_eq!(rows[0].body.as_ref().unwrap(), &want);
        }
        let rows =
            all(b"{\"sku\":\"a\",\"description\":null,\"active\":false}\n", FileFormat::Jsonl);
        let product = &rows[0].body.as_ref().unwrap().product;
        assert_eq!((&product.description, product.active), (&Some(None), Some(false)));
    }

    #[test]
    fn json_lines_take_strings_and_numbers() {
        let text = b"{\"sku\":\"a\",\"name\":\"A\",\"price\":2.5}\n\n{\"sku\":7,\"name\":\"B\",\"price\":\"1\",\"currency\":\"EUR\"}\n{\"sku\":\"c\",\"nam\":\"C\"}\nnope\n";
        let rows = all(text, FileFormat::Jsonl);
        let price = |row: &FileRow| {
            let row = row.body.as_ref().unwrap();
            (row.price.clone().unwrap(), row.currency.clone())
        };
        assert_eq!(price(&rows[0]), ("2.5".into(), None));
        assert_eq!((rows[1].line, price(&rows[1])), (3, ("1".into(), Some("EUR".into()))));
        assert!(faults(&rows[2])[0].starts_with("4 nam: is unknown; fields are sku, name"));
        assert!(faults(&rows[3])[0].starts_with("5 row: is not a JSON object"));
    }

    #[test]
    fn overlong_line_is_refused_and_skipped() {
        let text = [vec![b'x'; ROW_MAX_BYTES * 3], b"\n{\"sku\":\"a\",\"name\":\"A\"}".to_vec()];
        let rows = all(&text.concat(), FileFormat::Jsonl);
        assert!(faults(&rows[0])[0].contains("is longer than"));
        assert_eq!((rows[1].line, rows[1].body.is_ok()), (2, true));
    }

    #[test]
    fn the_name_tells_the_format() {
        for (name, want) in [
            ("a.csv.gz", FileFormat::Csv),
            ("A.JSONL", FileFormat::Jsonl),
            ("b.ndjson.gz", FileFormat::Jsonl),
        ] {
            assert_eq!(FileFormat::of_name(name), want, "{name}");
        }
    }
}
