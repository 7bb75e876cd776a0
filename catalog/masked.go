package catalog

import (
	"regexp"
	"slices"
	"strings"
)

// The forms in which pages, command lines and logs show a secret that they hide.
// A value counts as one only when no key could be like it: a real key that is
// refused is worse than a mask that the provider refuses.
var (
	// maskRun is filler with at most a prefix before it and four characters shown
	// after it: ****abcd, sk-xxxxxxxx, xxxxxxxxxxxxabcd, sk_live_????1234, ####.
	// Each sign is one run: a key may well hold a few x in a row, among others.
	maskRun = regexp.MustCompile(`^(?:[A-Za-z0-9]{1,12}[_-]){0,4}(?:x{4,}|X{4,}|\*{3,}|#{4,}|\?{4,}|\.{3,}|_{4,}|-{4,}|·{3,})[!-~]{0,4}$`)
	// maskInside is filler in the middle: sk-proj-ab...yz, AKIAxxxxxxxxxxxxWXYZ.
	maskInside = regexp.MustCompile(`\.{3,}|x{8,}|X{8,}|#{6,}|·{3,}`)
	// maskWord says that something is hidden, in any brackets.
	maskWord = regexp.MustCompile(`(?i)^[\[<({*_]+ ?(?:redacted|masked|hidden|filtered|secret|encrypted|protected|sensitive|unchanged) ?[\])>}*_]+$`)
	// maskBareWord says so without brackets; a password may be such a word.
	maskBareWord = regexp.MustCompile(`^(?:REDACTED|MASKED|HIDDEN|FILTERED|redacted|masked|hidden|filtered)$`)
	// maskPassword is a password field that shows filler alone.
	maskPassword = regexp.MustCompile(`^(?:x{4,}|X{4,}|#{4,}|\?{4,}|\.{3,}|[●∙⋅◦▪■█∗＊⁎·]{3,})$`)
)

// maskSigns are bullets, blocks and the other signs that only a mask has.
const maskSigns = "•●∙⋅◦▪■█∗＊⁎…"

// maskRuns are the shortest runs of filler. A value without any is no filled mask,
// which is soon found out.
func maskRuns() []string {
	return []string{"xxxx", "XXXX", "***", "####", "????", "...", "____", "----", "···"}
}

// longestMaskWord bounds what is compared with words.
const longestMaskWord = 32

// hidesSecret reports whether value is what stands in place of a secret field's
// value where that is hidden.
func (f *Field) hidesSecret(value string) bool {
	if f.isPassword() {
		return maskPassword.MatchString(value) || maskWord.MatchString(value)
	}
	if strings.ContainsAny(value, maskSigns) {
		return true
	}
	if slices.ContainsFunc(maskRuns(), func(run string) bool { return strings.Contains(value, run) }) {
		if maskRun.MatchString(value) || maskInside.MatchString(value) {
			return true
		}
	}
	return len(value) <= longestMaskWord && (maskWord.MatchString(value) || maskBareWord.MatchString(value))
}
