//! The product's Rust sources, parsed: doc comments and types are not there at run time.

use std::fs;
use std::path::{Path, PathBuf};
use syn::{Attribute, Expr, Fields, Item, Lit, Meta, Type};

/// The folder of the whole repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One file, by its path in the repository.
pub fn parse(path: &str) -> syn::File {
    let text = fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of a doc comment, its lines joined.
pub fn documentation(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// The type's last name, such as `String`; of an `Option` or a `Vec` that of what is in it.
    pub of: String,
    /// `Option` or `Vec`, if it is one.
    pub container: Option<String>,
    pub documentation: String,
}

/// The fields of a struct with this name.
pub fn fields(file: &syn::File, name: &str) -> Option<Vec<Field>> {
    let found = file.items.iter().find_map(|item| match item {
        Item::Struct(found) if found.ident == name => Some(found),
        _ => None,
    })?;
    let Fields::Named(named) = &found.fields else { panic!("{name} has no named fields") };
    Some(
        named
            .named
            .iter()
            .map(|field| {
                let (outer, inner) = names(&field.ty);
                let container = inner.is_some().then(|| outer.clone());
                Field {
                    name: field.ident.as_ref().map(ToString::to_string).unwrap_or_default(),
                    of: inner.unwrap_or(outer),
                    container,
                    documentation: documentation(&field.attrs),
                }
            })
            .collect(),
    )
}

/// The variants of an enum with this name: name, and what it means.
pub fn variants(file: &syn::File, name: &str) -> Option<Vec<(String, String)>> {
    file.items.iter().find_map(|item| match item {
        Item::Enum(found) if found.ident == name => Some(
            found
                .variants
                .iter()
                .map(|variant| (variant.ident.to_string(), documentation(&variant.attrs)))
                .collect(),
        ),
        _ => None,
    })
}

/// The last name of a type, and that of its argument.
fn names(of: &Type) -> (String, Option<String>) {
    let Type::Path(path) = of else { panic!("a type that is no name") };
    let last = path.path.segments.last().expect("a path has a segment");
    let argument = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
            Some(syn::GenericArgument::Type(inner)) => Some(names(inner).0),
            _ => None,
        },
        _ => None,
    };
    (last.ident.to_string(), argument)
}
