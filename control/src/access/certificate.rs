//! The name in a client's certificate.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The first DNS name among the alternative ones (RFC 5280, 4.2.1.6), else the subject's common name.
pub fn name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let dns =
        alternative.into_iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
    let common = || certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned);
    dns.or_else(common).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn named(names: &[&str], common: Option<&str>) -> Option<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        common.into_iter().for_each(|common| params.distinguished_name.push(DnType::CommonName, common));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        name(certificate.der())
    }

    #[test]
    fn the_first_dns_name_goes_before_the_common_one() {
        assert_eq!(
            named(&["10.0.0.1", "ann.example", "b.example"], Some("c")).as_deref(),
            Some("ann.example")
        );
        assert_eq!(named(&[], Some("ann")).as_deref(), Some("ann"));
        assert_eq!(named(&["10.0.0.1"], None), None);
        assert_eq!(name(b"no certificate"), None);
    }
}
