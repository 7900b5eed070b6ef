//! The countries that have postal codes, their formats, and whether one is required. The formats
//! were compared with the examples in Google's libaddressinput (`testdata/countryinfo.txt`); where
//! a country has changed its format, the former one is accepted, too. Whether a code exists, or
//! belongs to the city, is not checked.

/// The formats of the countries that have postal codes: `#` is a digit, `@` a letter, `*` either,
/// and anything else is literal. Spaces, hyphens, dots, case and a country sign before the code are
/// ignored.
const FORMS: [(&str, &[&str]); 46] = [
    ("FO IS MG OM PG TW", &["###"]),
    ("AD", &["###", "AD###"]),
    (
        "AF AL AR AT AU BD BE BG CC CH CV CX CY DK GE GL GW HM HT HU LI LR LU LV MD MK MZ NE NF NO NZ \
         PA PH PY SI SJ TN VE VG ZA",
        &["####"],
    ),
    ("AM", &["####", "######"]),
    ("AR", &["@####@@@"]),
    ("AZ", &["####", "######"]),
    ("BH", &["###", "####"]),
    (
        "AX BA BB BT CR CU CZ DE DO DZ EE EG ES FI FR GF GP GR GT HN HR ID IL IQ IT JO KE KH KR KW LA \
         LB LK LT LY MA MC ME MM MN MQ MU MV MX MY NC NP PE PF PK PM RE RS SA SD SE SK SM SN TH TR \
         TW TZ UA UY VA VN WF XK YT ZM BL MF",
        &["#####"],
    ),
    ("AS FM GU MH MP PR PW US VI", &["#####", "#########"]),
    ("SA", &["#########"]),
    ("BY CN CO EC IN KG KH KR KZ MN NG RO RS RU SG TJ TM TT TW UZ VN", &["######"]),
    ("CL IL JP PT", &["#######"]),
    ("BR", &["########"]),
    ("CR TZ", &["####"]),
    ("EC", &["@####@"]),
    ("LB", &["####", "########"]),
    ("PL", &["#####"]),
    ("IR", &["##########"]),
    ("KZ", &["@##@#@#"]),
    ("AI", &["2640", "AI2640"]),
    ("BM", &["@@##", "@@@@"]),
    ("BN", &["@@####"]),
    ("CA", &["@#@#@#"]),
    ("FK", &["FIQQ1ZZ"]),
    (
        "GB",
        &[
            "@##@@", "@###@@", "@@##@@", "@@###@@", "@#@#@@", "@@#@#@@", "GIR0AA", "BFPO#",
            "BFPO##", "BFPO###", "BFPO####",
        ],
    ),
    ("GG IM JE", &["@@##@@", "@@###@@"]),
    ("GI", &["GX111AA"]),
    ("GS", &["SIQQ1ZZ"]),
    ("IE", &["@######", "@##****", "D6W****"]),
    ("IO", &["BBND1ZZ"]),
    ("KY", &["#####", "KY#####"]),
    ("LC", &["##", "#####"]),
    ("MS", &["####", "MSR####"]),
    ("MT", &["@@@##", "@@@###", "@@@####"]),
    ("MU", &["@####", "###@@###"]),
    ("NI", &["#####", "######"]),
    ("NL", &["####@@"]),
    ("PE", &["LIMA#", "LIMA##", "CALLAO#", "CALLAO##"]),
    ("PN", &["PCRN1ZZ"]),
    ("SH", &["STHL1ZZ", "ASCN1ZZ", "TDCU1ZZ"]),
    ("SO", &["#####", "@@#####"]),
    ("SV", &["####", "CP####"]),
    ("SZ", &["@###"]),
    ("TC", &["TKCA1ZZ"]),
    ("VC", &["####"]),
    ("VE", &["####@"]),
];

/// Signs, other than the country code, that people write before a postal code: those of the post of
/// Luxembourg and Liechtenstein, and the signs on cars.
const SIGNS: [(&str, &str); 14] = [
    ("AT", "A"),
    ("AX", "FI"),
    ("BE", "B"),
    ("DE", "D"),
    ("ES", "E"),
    ("FI", "FIN"),
    ("FR", "F"),
    ("HU", "H"),
    ("IT", "I"),
    ("LI", "FL"),
    ("LU", "L"),
    ("NO", "N"),
    ("PT", "P"),
    ("SE", "S"),
];

/// The countries where mail needs a postal code.
const REQUIRED: &str = "AS AT AU AX BE BR CA CH CN CZ DE DK DZ EE ES FI FK FM FO FR GB GF GG GI GL \
                        GP GR GS GU HU ID IL IM IN IO IT JE JP KR LT LU LV MC MH MP MQ MX MY NC NL \
                        NO NZ PF PL PM PN PR PT PW RE RU SE SG SI SJ SK SM TC TR TW UA US VA VI XK \
                        YT ZA";

/// Characters that are ignored: the hyphens and dashes that keyboards and text correction write,
/// dots as in `01.310-100`, and the postal mark of Japan.
const DOES_NOT_COUNT: [char; 8] =
    ['-', '.', '\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}', '\u{3012}'];

/// Why a postal code is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPostalCode {
    /// The postal code is missing, and the country requires one.
    #[error("is required in this country")]
    Missing,
    /// The postal code has none of the country's formats.
    #[error("must be a postal code of this country")]
    Form,
}

/// Checks the postal code of an address in a country, by its ISO 3166-1 alpha-2 code.
///
/// # Errors
/// [`InvalidPostalCode`] if it is missing where it is required, or has none of the country's
/// formats.
pub fn check_postal_code(country: &str, code: Option<&str>) -> Result<(), InvalidPostalCode> {
    let is_in =
        |list: &str| list.as_bytes().chunks(3).any(|one| one.get(..2) == Some(country.as_bytes()));
    let Some(code) = code else {
        return if is_in(REQUIRED) { Err(InvalidPostalCode::Missing) } else { Ok(()) };
    };
    if code.trim_matches(char::is_whitespace).ends_with(DOES_NOT_COUNT) {
        return Err(InvalidPostalCode::Form);
    }
    let plain = code.chars().filter(|one| !one.is_whitespace() && !DOES_NOT_COUNT.contains(one));
    let plain: String = plain.map(|one| one.to_ascii_uppercase()).collect();
    let signs = SIGNS.iter().filter(|(of, _)| *of == country).map(|(_, sign)| *sign);
    let signs = ["", country].into_iter().chain(signs);
    let bare: Vec<&str> = signs.filter_map(|sign| plain.strip_prefix(sign)).collect();
    let mut known = FORMS.iter().filter(|(countries, _)| is_in(countries)).peekable();
    if known.peek().is_none() {
        return Ok(());
    }
    let mut forms = known.flat_map(|(_, forms)| forms.iter());
    if forms.any(|form| bare.iter().any(|code| has_form(code, form))) {
        Ok(())
    } else {
        Err(InvalidPostalCode::Form)
    }
}

fn has_form(code: &str, form: &str) -> bool {
    let fits = |(one, form): (char, char)| match form {
        '#' => one.is_ascii_digit(),
        '@' => one.is_ascii_uppercase(),
        '*' => one.is_ascii_alphanumeric(),
        itself => one == itself,
    };
    code.chars().count() == form.chars().count() && code.chars().zip(form.chars()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_needed_where_there_is_one_and_has_the_countrys_form() {
        for (country, code) in [
            ("GB", "N1 1AA"),
            ("GB", "ec1a1bb"),
            ("GB", "SW1Y 4JH"),
            ("GB", "YO1 1AA"),
            ("DE", "10115"),
            ("US", "12345"),
            ("US", "12345-6789"),
            ("CA", "k1a 0b1"),
            ("NL", "1234 AB"),
            ("SE", "SE-123 45"),
            ("LV", "LV-1010"),
            ("PL", "00-950"),
            ("PT", "1000-205"),
            ("JP", "100-0001"),
            ("BR", "01310-100"),
            ("IE", "D02 X285"),
            ("IE", "D6W XY00"),
            ("FK", "FIQQ 1ZZ"),
            ("AD", "AD500"),
            ("LU", "L-2530"),
            ("LI", "FL-9490"),
            ("DE", "D-10115"),
            ("FI", "FIN-00100"),
            ("BR", "01.310-100"),
            ("PL", "00\u{2013}950"),
            ("JP", "\u{3012}100\u{2212}0001"),
            ("KZ", "A15 E3B4"),
            ("PE", "Lima 23"),
            ("VE", "1010-A"),
            // These countries have no postal codes: any text is accepted.
            ("HK", "000000"),
            ("AE", "00000"),
        ] {
            assert_eq!(check_postal_code(country, Some(code)), Ok(()), "{country} {code}");
        }
        for (country, code) in [
            ("GB", "12345"),
            ("GB", "YO1"),
            ("DE", "1011"),
            ("DE", "N1 1AA"),
            ("DE", "A-10115"),
            ("US", "1234"),
            ("US", "12345-"),
            ("NL", "AB 1234"),
            ("CA", "123456"),
            ("FR", "７５００１"),
        ] {
            let form = Err(InvalidPostalCode::Form);
            assert_eq!(check_postal_code(country, Some(code)), form, "{country} {code}");
        }
        for country in ["HK", "AE", "IE", "QA", "PA", "MO"] {
            assert_eq!(check_postal_code(country, None), Ok(()), "{country}");
        }
        for country in ["GB", "DE", "US", "JP"] {
            assert_eq!(check_postal_code(country, None), Err(InvalidPostalCode::Missing));
        }
    }

    #[test]
    fn every_country_that_needs_a_code_has_a_form() {
        let has = |country: &str| {
            FORMS.iter().any(|(all, _)| all.split_ascii_whitespace().any(|one| one == country))
        };
        for country in REQUIRED.split_ascii_whitespace() {
            assert!(has(country), "{country}");
        }
        let all = FORMS.iter().flat_map(|(countries, _)| countries.split_ascii_whitespace());
        for country in all.filter(|one| *one != "XK") {
            assert!(celes::Country::from_alpha2(country).is_ok(), "{country}");
        }
    }
}
