//! The guide: the pages of `docs/` that help whoever calls the API or runs a server, as HTML. They
//! are rendered at the first request.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use actix_web::{HttpResponse, web};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use super::page::{answer, escape};
use crate::http::edge::error::Error;

macro_rules! page {
    ($name:literal, $about:literal) => {
        ($name, include_str!(concat!("../../../docs/", $name, ".md")), $about)
    };
}
/// The pages, in the order in which a reader needs them: the name of each, its text, and what it
/// is about.
const PAGES: [(&str, &str, &str); 9] = [
    page!("api", "How to call the API: common rules, then each part with its answers and errors"),
    page!("glossary", "What the words mean, and which status follows when"),
    page!("admin", "The page for the people who work in the shop"),
    page!("money", "What is captured, refunded and reversed, and when"),
    page!("operations", "How to run, back up, watch and mend a server or a cluster"),
    page!("scaling", "When one node is enough, and how several share the work"),
    page!("reliability", "What is promised, and how it is tested"),
    page!("performance", "What was measured, and the limits"),
    page!("load", "How to measure your own server"),
];

/// A rendered page.
struct GuidePage {
    title: String,
    main: String,
    /// The headings below the title: level, id and text.
    headings: Vec<(HeadingLevel, String, String)>,
}

/// Shows the list of the pages.
#[utoipa::path(get, path = "/docs/guide", tag = "docs",
    responses((status = 200, description = "A page", content_type = "text/html")))]
pub async fn show_guide() -> HttpResponse {
    let mut main = "<h1>Guide</h1>\n<ul>\n".to_owned();
    for (name, _, about) in PAGES {
        let title = pages().get(name).map_or(name, |page| &page.title);
        main += &format!(
            "<li><a href=\"/docs/guide/{name}\">{}</a>: {}</li>\n",
            escape(title),
            escape(about)
        );
    }
    main += "</ul>\n<p>The same requests can be sent from <a href=\"/docs/\">the API's page</a> and \
             from a <a href=\"/postman.json\">Postman collection</a>.</p>\n";
    answer("Guide", "/docs/guide", &main, "")
}

/// Shows a page of the guide.
///
/// # Errors
/// 404 for a page that is not there.
#[utoipa::path(get, path = "/docs/guide/{page}", tag = "docs",
    params(("page" = String, Path, description = "The name of the page")),
    responses((status = 200, description = "The page", content_type = "text/html")))]
pub async fn show_guide_page(path: web::Path<String>) -> Result<HttpResponse, Error> {
    let page = pages().get(path.as_str()).ok_or_else(|| Error::not_found("page"))?;
    let place = format!("/docs/guide/{path}");
    Ok(answer(&page.title, &place, &page.main, &contents(page)))
}

/// The table of contents of a page.
fn contents(page: &GuidePage) -> String {
    let mut list = "<nav aria-label=\"On this page\">\n<ul>\n".to_owned();
    for (level, id, text) in &page.headings {
        let class = if *level == HeadingLevel::H2 { "" } else { " class=\"inner\"" };
        list += &format!("<li{class}><a href=\"#{id}\">{}</a></li>\n", escape(text));
    }
    list + "</ul>\n</nav>\n"
}

fn pages() -> &'static BTreeMap<&'static str, GuidePage> {
    static ALL: OnceLock<BTreeMap<&'static str, GuidePage>> = OnceLock::new();
    ALL.get_or_init(|| PAGES.iter().map(|(name, text, _)| (*name, render(text))).collect())
}

/// Renders a page: headings get the ids that GitHub gives them, links to other files lead to their
/// pages, and what is too wide can be scrolled.
fn render(text: &str) -> GuidePage {
    let mut headings: Vec<(HeadingLevel, String, String)> = Vec::new();
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut unlinked = 0;
    let mut parsed = Parser::new_ext(text, Options::ENABLE_TABLES);
    while let Some(event) = parsed.next() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                let inner: Vec<Event<'_>> = parsed
                    .by_ref()
                    .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))))
                    .collect();
                let text = plain(&inner);
                let id = free_id(&text, &headings);
                events.push(html(format!("<{level} id=\"{id}\"><a href=\"#{id}\">")));
                events.extend(inner);
                events.push(html(format!("</a></{level}>\n")));
                headings.push((level, id, text));
            }
            Event::Start(Tag::Link { dest_url, .. }) if link(&dest_url).is_none() => unlinked += 1,
            Event::End(TagEnd::Link) if unlinked > 0 => unlinked -= 1,
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let dest_url = link(&dest_url).unwrap_or_default().into();
                events.push(Event::Start(Tag::Link { link_type, dest_url, title, id }));
            }
            Event::Start(Tag::CodeBlock(_)) => events.push(html("<pre tabindex=\"0\"><code>")),
            Event::End(TagEnd::CodeBlock) => events.push(html("</code></pre>\n")),
            Event::Start(Tag::Table(columns)) => {
                events.push(html("<div class=\"scroll\" tabindex=\"0\">\n"));
                events.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                events.push(html("</div>\n"));
            }
            other => events.push(other),
        }
    }
    let mut main = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut main, events.into_iter());
    let title = headings.first().map_or_else(String::new, |(_, _, text)| text.clone());
    headings.retain(|(level, ..)| matches!(level, HeadingLevel::H2 | HeadingLevel::H3));
    GuidePage { title, main, headings }
}

fn html<'a>(text: impl Into<CowStr<'a>>) -> Event<'a> {
    Event::Html(text.into())
}

/// The text of a heading without its marks.
fn plain(inner: &[Event<'_>]) -> String {
    let text = |event: &Event<'_>| match event {
        Event::Text(text) | Event::Code(text) => text.to_string(),
        Event::SoftBreak => " ".to_owned(),
        _ => String::new(),
    };
    inner.iter().map(text).collect()
}

/// The id that GitHub gives to a heading; a heading that repeats an earlier one gets a number.
fn free_id(text: &str, earlier: &[(HeadingLevel, String, String)]) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    let lower = text.to_lowercase();
    let id: String = lower.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect();
    match earlier.iter().filter(|(_, _, other)| other == text).count() {
        0 => id,
        count => format!("{id}-{count}"),
    }
}

/// Where a link of a page leads in the guide; `None` if its target is only in the source.
fn link(to: &str) -> Option<String> {
    if to.starts_with('#') || to.starts_with("https://") {
        return Some(to.to_owned());
    }
    let (file, heading) = to.split_once('#').map_or((to, None), |(file, id)| (file, Some(id)));
    let name = file.strip_suffix(".md")?;
    PAGES.iter().find(|(page, ..)| *page == name)?;
    let heading = heading.map_or_else(String::new, |id| format!("#{id}"));
    Some(format!("/docs/guide/{name}{heading}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The targets of all links to this host in a text.
    fn links(html: &str) -> impl Iterator<Item = &str> {
        let ends = |rest: &'_ str| rest.find('"').unwrap();
        let targets = html.split("href=\"").skip(1).chain(html.split("src=\"").skip(1));
        targets.map(move |rest| &rest[..ends(rest)]).filter(|to| !to.starts_with("https://"))
    }

    #[test]
    fn every_link_of_the_guide_leads_somewhere() {
        for (name, page) in pages() {
            let aside = contents(page);
            for to in links(&page.main).chain(links(&aside)) {
                let (place, id) = to.split_once('#').unwrap_or((to, ""));
                let name = place.strip_prefix("/docs/guide/").unwrap_or(name);
                let there = pages().get(name).unwrap_or_else(|| panic!("{to}"));
                assert!(id.is_empty() || there.main.contains(&format!("id=\"{id}\"")), "{to}");
            }
        }
    }

    #[test]
    fn a_page_is_rendered_with_its_headings_links_and_tables() {
        let page = render(
            "# Money, and `more`\n\nSee [a](api.md#cart), [b](../Cargo.toml), [c](#d).\n\n\
             ## D\n\n## D\n\n| a |\n| --- |\n| <b> |\n\n```\n{\"a\": 1}\n```\n",
        );
        assert_eq!(page.title, "Money, and more");
        let ids: Vec<&str> = page.headings.iter().map(|(_, id, _)| id.as_str()).collect();
        assert_eq!(ids, ["d", "d-1"]);
        for part in [
            "<h1 id=\"money-and-more\">",
            "<a href=\"/docs/guide/api#cart\">a</a>, b, <a href=\"#d\">c</a>.",
            "<div class=\"scroll\" tabindex=\"0\">",
            "<pre tabindex=\"0\"><code>{\"a\": 1}",
        ] {
            assert!(page.main.contains(part), "{part} is not in {}", page.main);
        }
    }
}
