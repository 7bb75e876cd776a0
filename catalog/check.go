package catalog

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem says what is wrong with one field. It never holds a value, nor a name
// that is not of the service.
type Problem struct {
	Field   string // a field of the service; empty when the set of names is wrong
	Message string // what the value must be, for people
}

// Check says what keeps fields from being a credential of the service: unknown
// names, missing or empty fields, values that are too long, masked, or of the
// wrong [Format]. With no problems the credential can be stored. Warnings say
// which values do not have the provider's usual form; forms change, so a warning
// is to be shown and never to refuse. Both are in the order of Fields.
func (s *Service) Check(fields map[string]string) (problems, warnings []Problem) {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	problems = s.CheckNames(names)
	missing, neither := s.refuseMissing(fields)
	if neither != "" {
		problems = append(problems, Problem{Message: neither})
	}
	for i := range s.Fields {
		f := &s.Fields[i]
		value, given := fields[f.Name]
		if !given {
			if message, ok := missing[f.Name]; ok {
				problems = append(problems, Problem{f.Name, message})
			}
			continue
		}
		if message := f.refuse(value); message != "" {
			problems = append(problems, Problem{f.Name, message})
			continue
		}
		if f.pattern != nil && !f.pattern.MatchString(value) {
			warnings = append(warnings, Problem{f.Name, "does not have the usual form of this field; check that it was copied whole"})
		}
	}
	return problems, warnings
}

// refuseMissing gives a message for each field that must be given and is not.
// Where no alternative is begun, none of its fields is to blame: neither says
// what there could be.
func (s *Service) refuseMissing(fields map[string]string) (missing map[string]string, neither string) {
	has := func(name string) bool { _, ok := fields[name]; return ok }
	missing = make(map[string]string)
	begun := slices.ContainsFunc(s.Alternatives, func(way []string) bool { return slices.ContainsFunc(way, has) })
	for _, name := range s.Missing(has) {
		f, _ := s.Field(name)
		switch {
		case f.Required:
			missing[name] = "is required"
		case begun:
			missing[name] = "is required with the other fields given; there must be " + s.alternativesText()
		default:
			neither = "there must be " + s.alternativesText()
		}
	}
	return missing, neither
}

// CheckNames says whether every name is a field of the service, for a change
// that names fields without giving values. Unknown names make one problem that
// lists the fields there are.
func (s *Service) CheckNames(names []string) []Problem {
	unknown := 0
	for _, name := range names {
		if _, ok := s.Field(name); !ok {
			unknown++
		}
	}
	if unknown == 0 {
		return nil
	}
	if len(s.Fields) == 0 {
		return []Problem{{Message: s.Name + " takes no credential"}}
	}
	known := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		known[i] = f.Name
	}
	count := "1 field is"
	if unknown > 1 {
		count = strconv.Itoa(unknown) + " fields are"
	}
	return []Problem{{Message: count + " not known; " + s.Name + " takes " + strings.Join(known, ", ")}}
}

// refuse gives why a value cannot stand, or "".
func (f *Field) refuse(value string) string {
	switch {
	case value == "":
		return "must not be empty; leave the field out instead"
	case f.Format == MailPort && len(value) > f.MaxLength:
		return portRange
	case len(value) > f.MaxLength:
		return "must be at most " + strconv.Itoa(f.MaxLength) + " bytes long"
	case !utf8.ValidString(value):
		return "must be UTF-8 text"
	case strings.TrimSpace(value) != value:
		return "must not start or end with a space or line break; copy it again without"
	case strings.ContainsFunc(value, isInvisible):
		return "must not hold line breaks or invisible characters"
	case f.looksMasked(value):
		return "is a masked value, such as a page shows in place of a secret; send the real one, or leave the field out to keep what is stored"
	}
	switch f.Format {
	case Token:
		return refuseToken(value)
	case Label:
		if !isLabel(strings.ReplaceAll(value, "_", "0")) { // which providers have, though host names have not
			return "must be one part of a host name: a-z, 0-9, underscore and hyphen, no hyphen at either end, such as acme for acme.example.com"
		}
	case Choice:
		if !slices.Contains(f.Choices, value) {
			return "must be one of " + strings.Join(f.Choices, ", ")
		}
	case Email:
		if !isEmail(value) {
			return "must be an email address alone, such as agent@example.com"
		}
	case Host:
		if !validHost(value) {
			return "must be a host name alone, such as smtp.example.com, without scheme or port"
		}
	case MailPort:
		if n, err := strconv.ParseUint(value, 10, 16); err != nil || n == 0 || value[0] < '1' || value[0] > '9' {
			return portRange
		}
	case Segment:
		if !isSegment(value) {
			return "must be letters, digits, hyphens and underscores only"
		}
	case Endpoint:
		if f.endpoint(value) == "" {
			return "must be https://NAME and one of " + strings.Join(f.Suffixes, ", ")
		}
	case Base:
		if f.base(value) == nil {
			return "must be an address that the operator of this instance allows (GITHUB_HOSTS), or left out"
		}
	case Text:
	}
	return ""
}

const portRange = "must be a port from 1 to 65535"

func refuseToken(value string) string {
	if strings.Contains(value, " ") {
		return "must not hold spaces; send the value alone, without a word such as Bearer"
	}
	if !onlyBytes(value, func(b byte) bool { return b > ' ' && b < 0x7f }) {
		return "must be ASCII letters, digits and signs only"
	}
	return ""
}

// isInvisible holds for control characters and for the format characters
// (zero-width space, byte order mark, ...) that a copy from a web page picks up.
func isInvisible(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

func isLabel(value string) bool {
	if len(value) > 63 || value[0] == '-' || value[len(value)-1] == '-' {
		return false
	}
	return onlyBytes(value, func(b byte) bool { return isLowerAlnum(b) || b == '-' })
}

func isSegment(value string) bool {
	return onlyBytes(value, func(b byte) bool { return isAlnum(b) || b == '-' || b == '_' })
}

// isEmail is a shape check. Quoted local parts are refused: a colon or a slash
// in one would change the meaning of the Basic header it becomes part of.
func isEmail(value string) bool {
	local, domain, found := strings.Cut(value, "@")
	if !found || local == "" || !strings.Contains(domain, ".") || !validHost(domain) {
		return false
	}
	return onlyBytes(local, func(b byte) bool {
		return isAlnum(b) || strings.IndexByte(".!#$%&'*+-=?^_`{|}~", b) >= 0
	})
}
