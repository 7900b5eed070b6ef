//! The Online Retail file (UCI, CC BY 4.0): its rows, which of them are products, and the catalogue
//! derived from them.
//!
//! Deliberately not here: sending, and the other import formats (`import::rows`).

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use kontor_client::Price;
use kontor_client::UnitPrice;
use kontor_client::api::Product;

use super::import::source::TooLarge;
use super::import::{csv_text, source};

/// The columns, in the order of the file.
pub const COLUMNS: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// The most rows that are read, and the most bytes of their different texts, so that a wrong file
/// cannot fill the memory.
pub const ROWS_MAX: usize = 2_000_000;
const TEXTS_MAX_BYTES: usize = 128 << 20;

/// One row of the file: one item of an invoice.
#[derive(Clone, Debug)]
pub struct RetailRow {
    /// The number of its line in the file; the header is line 1.
    pub line: u64,
    /// The invoice number; `C` is the prefix of a cancellation, `A` of an adjustment.
    pub invoice: Arc<str>,
    /// The stock code, as written.
    pub code: Arc<str>,
    /// Its description in this row, trimmed; may be empty.
    pub description: Arc<str>,
    /// Units; negative for returns and write-offs.
    pub quantity: i64,
    /// The unit price in GBP.
    pub price: UnitPrice,
    /// The customer's number, without the file's `.0`.
    pub customer: Option<Arc<str>>,
    /// The country's name in the file.
    pub country: Arc<str>,
}

impl RetailRow {
    /// The value of the row, in pence, rounded half to even; negative for returns.
    #[must_use]
    pub fn pence(&self) -> i64 {
        value(self.price, self.quantity)
    }
}

/// `price` x `quantity` in pence, rounded half to even.
#[must_use]
pub fn value(price: UnitPrice, quantity: i64) -> i64 {
    let (exact, one) =
        (i128::from(price.raw()) * i128::from(quantity), i128::from(UnitPrice::SCALE));
    let (whole, part) = (exact.div_euclid(one), exact.rem_euclid(one) * 2);
    let up = part > one || (part == one && whole % 2 != 0);
    // Both factors were bounded when they were parsed, so the result is in range.
    i64::try_from(whole + i128::from(up)).unwrap_or(0)
}

/// Reads all rows.
///
/// # Errors
/// [`source::Error`], with line and column.
pub fn read(input: impl Read) -> Result<Vec<RetailRow>, source::Error> {
    let mut reader = csv_text::reader(input)?;
    let header = reader.byte_headers().map_err(source::Error::csv)?.clone();
    let names: Vec<&[u8]> = header.iter().map(|name| name.trim_ascii()).collect();
    if names != COLUMNS.map(str::as_bytes) {
        return Err(source::Error::Header(format!(
            "an Online Retail file has the columns {}",
            COLUMNS.join(",")
        )));
    }
    let mut texts = Texts::default();
    let mut rows = Vec::new();
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(source::Error::csv)? {
        if rows.len() == ROWS_MAX {
            return Err(TooLarge::Rows(ROWS_MAX).into());
        }
        rows.push(row(csv_text::line(&reader, &record), &record, &mut texts)?);
        if texts.bytes > TEXTS_MAX_BYTES {
            return Err(TooLarge::Texts(TEXTS_MAX_BYTES).into());
        }
    }
    Ok(rows)
}

fn row(line: u64, record: &csv::ByteRecord, texts: &mut Texts) -> Result<RetailRow, source::Error> {
    let fault = |column: usize, message: &str| source::Error::Field {
        line,
        column: COLUMNS[column].to_owned(),
        message: message.to_owned(),
    };
    if record.len() != COLUMNS.len() {
        return Err(fault(0, &format!("the row has {} fields, not 8", record.len())));
    }
    let text = |column: usize| {
        std::str::from_utf8(&record[column])
            .map(str::trim)
            .map_err(|error| fault(column, &source::not_utf8(error)))
    };
    let quantity: i64 = text(3)?.parse().map_err(|_| fault(3, "must be a whole number"))?;
    if quantity.abs() > 1_000_000 {
        return Err(fault(3, "must be from -1000000 to 1000000"));
    }
    let price = UnitPrice::from_major(text(5)?, "GBP").map_err(|e| fault(5, &e.to_string()))?;
    if price.raw().abs() > 1_000_000_000_000 {
        return Err(fault(5, "must be at most 1000000"));
    }
    let customer = text(6)?;
    let customer = customer.strip_suffix(".0").unwrap_or(customer);
    Ok(RetailRow {
        line,
        invoice: texts.shared(text(0)?),
        code: texts.shared(text(1)?),
        description: texts.shared(text(2)?),
        quantity,
        price,
        customer: (!customer.is_empty()).then(|| texts.shared(customer)),
        country: texts.shared(text(7)?),
    })
}

/// Stores each distinct text once, to save memory.
#[derive(Default)]
struct Texts {
    all: HashSet<Arc<str>>,
    bytes: usize,
}

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.all.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.bytes += text.len();
        self.all.insert(Arc::clone(&new));
        new
    }
}

/// The meaning of a stock code that is not a product.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
pub enum NotGoods {
    /// `POST`, `DOT`: postage.
    Postage,
    /// `C2`: carriage.
    Carriage,
    /// `M`: an entry by hand.
    Manual,
    /// `D`: a discount.
    Discount,
    /// `S`: samples.
    Samples,
    /// `BANK CHARGES`.
    BankCharges,
    /// `AMAZONFEE`.
    AmazonFee,
    /// `CRUK`: a charity's commission.
    Commission,
    /// `PADS`: pads to match cushions, given away.
    Pads,
    /// `gift_0001_*`: gift vouchers.
    GiftVoucher,
    /// `B`: bad debt.
    BadDebt,
}

/// The meaning of a stock code that is not a product; `None` for a product.
#[must_use]
pub fn not_goods(code: &str) -> Option<NotGoods> {
    let code = code.to_ascii_uppercase();
    Some(match code.as_str() {
        "POST" | "DOT" => NotGoods::Postage,
        "C2" => NotGoods::Carriage,
        "M" => NotGoods::Manual,
        "D" => NotGoods::Discount,
        "S" => NotGoods::Samples,
        "BANK CHARGES" => NotGoods::BankCharges,
        "AMAZONFEE" => NotGoods::AmazonFee,
        "CRUK" => NotGoods::Commission,
        "PADS" => NotGoods::Pads,
        "B" => NotGoods::BadDebt,
        _ if code.starts_with("GIFT_0001_") => NotGoods::GiftVoucher,
        _ => return None,
    })
}

/// Whether the row sells a product: a positive quantity at a positive price on an ordinary invoice.
#[must_use]
pub fn sells_goods(row: &RetailRow) -> bool {
    let ordinary = !row.invoice.starts_with(['C', 'A']);
    ordinary && row.quantity > 0 && row.price.raw() > 0 && not_goods(&row.code).is_none()
}

/// A product derived from the file.
#[derive(Clone, Debug)]
pub struct Implied {
    /// The number of the file's first line with this code.
    pub line: u64,
    /// The product to import.
    pub product: Product,
    /// Units of all its sale rows.
    pub units: i64,
}

#[derive(Default)]
struct Seen<'a> {
    line: u64,
    units: i64,
    names: BTreeMap<&'a str, u64>,
    prices: BTreeMap<UnitPrice, u64>,
}

/// A product for every stock code that is sold at least once, in the order of their codes: its most
/// frequent name and its most frequent price. Among equally frequent names, the first in
/// alphabetical order is used; among equally frequent prices, the lowest.
#[must_use]
pub fn catalog(rows: &[RetailRow]) -> Vec<Implied> {
    let mut seen: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    for row in rows.iter().filter(|row| sells_goods(row)) {
        let seen = seen.entry(&row.code).or_default();
        if seen.units == 0 {
            seen.line = row.line;
        }
        seen.units += row.quantity;
        *seen.prices.entry(row.price).or_default() += 1;
        if !row.description.is_empty() {
            *seen.names.entry(&row.description).or_default() += 1;
        }
    }
    let implied = |(code, seen): (&str, Seen<'_>)| Implied {
        line: seen.line,
        product: Product {
            sku: code.to_owned(),
            name: Some(most_frequent(&seen.names).unwrap_or(code).to_owned()),
            prices: vec![Price::new(most_frequent(&seen.prices).unwrap_or_default(), "GBP")],
            ..Product::default()
        },
        units: seen.units,
    };
    seen.into_iter().map(implied).collect()
}

fn most_frequent<T: Copy>(counts: &BTreeMap<T, u64>) -> Option<T> {
    let mut best: Option<(T, u64)> = None;
    for (value, count) in counts {
        if best.is_none_or(|(_, most)| *count > most) {
            best = Some((*value, *count));
        }
    }
    best.map(|(value, _)| value)
}

/// The ISO 3166-1 alpha-2 code for a country's name in the file, or `None` for another name. A name
/// that is not a country gets a code that is valid in an address: the Channel Islands that of
/// Jersey, "European Community" that of its seat, "Unspecified" that of the shop.
#[must_use]
pub fn country_code(name: &str) -> Option<&'static str> {
    COUNTRIES.iter().find(|(known, ..)| *known == name).map(|(_, code, _)| *code)
}

/// A postal code in the country with this name in the file, or `None` for a country without postal
/// codes.
#[must_use]
pub fn postal_code(name: &str) -> Option<&'static str> {
    let (.., code) = COUNTRIES.iter().find(|(known, ..)| *known == name)?;
    (!code.is_empty()).then_some(*code)
}

/// Names, codes, and a postal code of the country; empty for a country without postal codes.
const COUNTRIES: [(&str, &str, &str); 38] = [
    ("Australia", "AU", "2000"),
    ("Austria", "AT", "1010"),
    ("Bahrain", "BH", "317"),
    ("Belgium", "BE", "1000"),
    ("Brazil", "BR", "01310-100"),
    ("Canada", "CA", "K1A 0B1"),
    ("Channel Islands", "JE", "JE2 3AB"),
    ("Cyprus", "CY", "1010"),
    ("Czech Republic", "CZ", "110 00"),
    ("Denmark", "DK", "1050"),
    ("EIRE", "IE", "D02 X285"),
    ("European Community", "BE", "1000"),
    ("Finland", "FI", "00100"),
    ("France", "FR", "75001"),
    ("Germany", "DE", "10115"),
    ("Greece", "GR", "105 57"),
    ("Hong Kong", "HK", ""),
    ("Iceland", "IS", "101"),
    ("Israel", "IL", "9414001"),
    ("Italy", "IT", "00184"),
    ("Japan", "JP", "100-0001"),
    ("Lebanon", "LB", "1100"),
    ("Lithuania", "LT", "LT-01100"),
    ("Malta", "MT", "VLT 1117"),
    ("Netherlands", "NL", "1012 AB"),
    ("Norway", "NO", "0150"),
    ("Poland", "PL", "00-950"),
    ("Portugal", "PT", "1000-205"),
    ("RSA", "ZA", "8001"),
    ("Saudi Arabia", "SA", "11564"),
    ("Singapore", "SG", "018956"),
    ("Spain", "ES", "28001"),
    ("Sweden", "SE", "111 22"),
    ("Switzerland", "CH", "8001"),
    ("USA", "US", "10001"),
    ("United Arab Emirates", "AE", ""),
    ("United Kingdom", "GB", "EC1A 1BB"),
    ("Unspecified", "GB", "EC1A 1BB"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    #[test]
    fn rows_are_read_with_their_lines() {
        let text = format!(
            "{HEADER}536365,85123A,WHITE HEART ,6,2010-12-01 08:26:00,2.55,17850.0,EIRE\n\
             C1,PADS,,-1,2010-12-01 08:26:00,0.001,,USA\n"
        );
        let rows = read(text.as_bytes()).unwrap();
        assert_eq!(
            (rows[0].line, rows[0].pence(), &*rows[0].description),
            (2, 1530, "WHITE HEART")
        );
        assert_eq!(
            (rows[0].customer.as_deref(), rows[1].customer.as_deref()),
            (Some("17850"), None)
        );
        assert_eq!((rows[1].line, rows[1].pence()), (3, 0));
    }

    #[test]
    fn a_faulty_row_is_named() {
        for (row, want) in [
            ("1,a,b,six,d,1.0,,EIRE", "line 2, Quantity: must be a whole number"),
            ("1,a,b,6,d,1.0", "line 2, InvoiceNo: the row has 6 fields, not 8"),
            ("1,a,b,6,d,x,,EIRE", "line 2, UnitPrice: must be a number"),
        ] {
            let error = read(format!("{HEADER}{row}\n").as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
        assert!(matches!(read(b"a,b\n1,2\n".as_slice()), Err(source::Error::Header(_))));
        let bytes = [HEADER.as_bytes(), b"1,a,b\xff,6,d,1.0,,EIRE\n"].concat();
        let error = read(bytes.as_slice()).unwrap_err().to_string();
        assert_eq!(error, "line 2, Description: is not UTF-8 at byte 2");
    }

    #[test]
    fn fees_and_gifts_are_not_products() {
        for code in ["POST", "m", "gift_0001_20", "BANK CHARGES", "B"] {
            assert!(not_goods(code).is_some(), "{code}");
        }
        for code in ["85123A", "DCGS0076", "10002"] {
            assert_eq!(not_goods(code), None, "{code}");
        }
    }

    #[test]
    fn catalog_uses_the_most_frequent_values() {
        let text = format!(
            "{HEADER}1,a,LAMP,1,d,2.55,,EIRE\n1,a,lamp,2,d,2.95,,EIRE\n2,a,LAMP,3,d,2.95,,EIRE\n\
             2,a,broken,-9,d,0.0,,EIRE\n2,POST,POSTAGE,1,d,5,,EIRE\n3,e,,1,d,1,,EIRE\n\
             C4,c,GONE,-1,d,1,,EIRE\n"
        );
        let catalog = catalog(&read(text.as_bytes()).unwrap());
        let short: Vec<_> = catalog
            .iter()
            .map(|i| (i.product.sku.as_str(), i.product.name.as_deref().unwrap(), i.units, i.line))
            .collect();
        assert_eq!(short, [("a", "LAMP", 6, 2), ("e", "e", 1, 7)]);
        assert_eq!(catalog[0].product.prices[0].amount, Some(295));
    }

    #[test]
    fn every_country_has_a_code_that_exists() {
        for (name, code, _) in COUNTRIES {
            assert!(celes::Country::from_alpha2(code).is_ok(), "{name}");
        }
        assert_eq!(country_code("Atlantis"), None);
    }
}
