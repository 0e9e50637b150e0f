//! `mvm image explain`: where a path of an appliance comes from, and who says what of a container.

use images::provenance::{Answer, By, Container, Field, Found, ImageId, Origin, Provenance, Said};
use images::{DEFAULT_REFERENCE, Source, Store};

use super::definition;
use crate::cli::appliance::{self, Order};
use crate::cli::output::{print, print_line};
use crate::cli::{Context, Failure, progress};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A path as the machine sees it, CONTAINER:/PATH as a container sees it, or the name of a container
    what: String,
    /// Tell of the appliance that these would make, without making it: files, URLs, or - for standard input
    #[arg(value_name = "YML")]
    files: Vec<String>,
    /// The appliance [default: the one that this mvm carries]
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    image: Option<String>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(context: Context, args: Args) -> Result<(), Failure> {
    let Args { what, files, image, json } = args;
    let source = if files.is_empty() { None } else { Some(definition::source(files).await?) };
    let blocking = move || {
        let provenance = provenance(&context, source, image.as_deref().unwrap_or(DEFAULT_REFERENCE))?;
        let answer = provenance.explain(&what)?;
        if json { print_line(serde_json::to_string(&answer)?) } else { print(text(&answer)) }
    };
    tokio::task::spawn_blocking(blocking).await?
}

/// What was stored with an appliance, or what would be.
fn provenance(context: &Context, source: Option<Source>, name: &str) -> Result<Provenance, Failure> {
    let directories = appliance::directories(context);
    match source {
        None => Ok(Store::open(&directories.images())?.provenance(name)?),
        Some(source) => Order::of(source, name).trace(&directories, progress::to_stderr().as_ref()),
    }
}

fn text(answer: &Answer<'_>) -> String {
    match answer {
        Answer::Container(container) => container_text(container),
        Answer::Path(found) => found.iter().map(found_text).collect(),
    }
}

fn found_text(found: &Found<'_>) -> String {
    let Found { path, link, origin, replaced, containers } = found;
    let mut rows = vec![("from", origin.material.to_string())];
    rows.extend(origin.image.iter().map(|image| ("image", image.to_string())));
    rows.extend(origin.item.iter().map(|item| ("for", item.to_string())));
    rows.extend(replaced.iter().map(|origin| ("instead of", in_one_line(origin))));
    if !containers.is_empty() {
        rows.push(("root of", containers.join(", ")));
    }
    let link = link.map(|target| format!(", a link to {target}")).unwrap_or_default();
    format!("{path}{link}\n{}", table(&rows))
}

fn in_one_line(origin: &Origin) -> String {
    let image = origin.image.iter().map(ImageId::to_string);
    let item = origin.item.iter().map(ToString::to_string);
    [origin.material.to_string()].into_iter().chain(image).chain(item).collect::<Vec<_>>().join(", ")
}

fn container_text(container: &Container) -> String {
    let mut rows = Vec::new();
    rows.extend(container.item.iter().map(|item| ("for", item.to_string())));
    rows.push(("image", container.image.to_string()));
    rows.push(("root", format!("/{}", container.root)));
    for Field { name, said } in &container.fields {
        let said =
            said.iter().map(|Said { value, by }| format!("{value}  {}", by_text(by, &container.image)));
        rows.extend(said.map(|said| (name.as_str(), said)));
    }
    format!("{}\n{}", container.name, table(&rows))
}

fn by_text(by: &By, image: &ImageId) -> String {
    match by {
        By::Definition(at) => at.to_string(),
        By::Label => format!("the label of {}", image.name),
        By::Recipe => format!("the recipe of {}", image.name),
        By::Configuration => format!("the configuration of {}", image.name),
        By::Default => "where nothing is said".to_owned(),
    }
}

fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("  {name:width$}  {value}\n")).collect()
}
