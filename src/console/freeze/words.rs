//! The texts of the page.

use crate::console::enrol::Language;

/// Every text of the page in one language.
#[derive(Debug)]
pub(super) struct FreezeWords {
    pub(super) ask: &'static str,
    pub(super) ask_what: &'static str,
    pub(super) ask_effect: &'static str,
    pub(super) button: &'static str,
    pub(super) done: &'static str,
    pub(super) done_what: &'static str,
    pub(super) gone: &'static str,
    pub(super) gone_what: &'static str,
    pub(super) trouble: &'static str,
    pub(super) trouble_what: &'static str,
    pub(super) languages: &'static str,
}

/// The texts in a language.
pub(super) fn words(language: Language) -> &'static FreezeWords {
    match language {
        Language::En => &EN,
        Language::De => &DE,
        Language::Sk => &SK,
        Language::Cs => &CS,
    }
}

const EN: FreezeWords = FreezeWords {
    ask: "Was this not you?",
    ask_what: "Your phone number for signing in was replaced by another one. If you did that, close this page: there is nothing to do.",
    ask_effect: "If it was not you, press the button. Then the new number is not used, whatever was set up since is void, and nobody, you included, can sign in with your second factor until an administrator has looked at it.",
    button: "This was not me",
    done: "The new number is not used",
    done_what: "The account is frozen until an administrator has looked at it. Please call your administrators or helpdesk now, on a number that you know.",
    gone: "This link is not valid",
    gone_what: "It is no longer valid, or was not copied whole. If a change of your phone number was not yours, call your administrators or helpdesk.",
    trouble: "This does not work at the moment",
    trouble_what: "Nothing was changed. Please try again in a few minutes, or call your administrators or helpdesk.",
    languages: "Languages",
};

const DE: FreezeWords = FreezeWords {
    ask: "Waren Sie das nicht?",
    ask_what: "Für die Anmeldung wurde anstelle Ihrer Telefonnummer eine andere angegeben. Wenn Sie das waren, schließen Sie diese Seite: Es ist nichts zu tun.",
    ask_effect: "Wenn Sie es nicht waren, drücken Sie die Schaltfläche. Die neue Nummer wird dann nicht verwendet, was seither eingerichtet wurde, ist ungültig, und niemand kann sich mit dem zweiten Faktor Ihres Kontos anmelden, bis Ihre Administratoren es geprüft haben.",
    button: "Das war ich nicht",
    done: "Die neue Nummer wird nicht verwendet",
    done_what: "Das Konto ist gesperrt, bis Ihre Administratoren es geprüft haben. Bitte rufen Sie Ihre Administratoren oder den Helpdesk jetzt an, unter einer Nummer, die Sie kennen.",
    gone: "Dieser Link ist nicht gültig",
    gone_what: "Er gilt nicht mehr, oder er wurde nicht vollständig kopiert. Wenn eine Änderung Ihrer Telefonnummer nicht von Ihnen war, rufen Sie Ihre Administratoren oder den Helpdesk an.",
    trouble: "Das geht im Moment nicht",
    trouble_what: "Es wurde nichts geändert. Bitte versuchen Sie es in einigen Minuten wieder, oder rufen Sie Ihre Administratoren oder den Helpdesk an.",
    languages: "Sprachen",
};

const SK: FreezeWords = FreezeWords {
    ask: "Neboli ste to vy?",
    ask_what: "Na prihlasovanie bolo namiesto vášho telefónneho čísla zadané iné. Ak ste to boli vy, zatvorte túto stránku: nie je potrebné nič robiť.",
    ask_effect: "Ak ste to neboli vy, stlačte tlačidlo. Nové číslo sa potom nepoužije, čo bolo odvtedy nastavené, prestane platiť, a druhým faktorom vášho účtu sa nikto neprihlási, kým to neprezrú správcovia.",
    button: "Nebol(a) som to ja",
    done: "Nové číslo sa nepoužíva",
    done_what: "Účet je zmrazený, kým ho neprezrú správcovia. Zavolajte teraz svojim správcom alebo na podporu, na číslo, ktoré poznáte.",
    gone: "Tento odkaz neplatí",
    gone_what: "Už neplatí, alebo nebol skopírovaný celý. Ak zmena vášho telefónneho čísla nebola vaša, zavolajte svojim správcom alebo na podporu.",
    trouble: "Momentálne to nejde",
    trouble_what: "Nič sa nezmenilo. Skúste to o pár minút znova, alebo zavolajte svojim správcom alebo na podporu.",
    languages: "Jazyky",
};

const CS: FreezeWords = FreezeWords {
    ask: "Nebyli jste to vy?",
    ask_what: "Pro přihlašování bylo místo vašeho telefonního čísla zadáno jiné. Pokud jste to byli vy, zavřete tuto stránku: není potřeba nic dělat.",
    ask_effect: "Pokud jste to nebyli vy, stiskněte tlačítko. Nové číslo se pak nepoužije, co bylo od té doby nastaveno, přestane platit, a druhým faktorem vašeho účtu se nikdo nepřihlásí, dokud to neprověří správci.",
    button: "Nebyl(a) jsem to já",
    done: "Nové číslo se nepoužívá",
    done_what: "Účet je zmrazený, dokud ho neprověří správci. Zavolejte teď svým správcům nebo na podporu, na číslo, které znáte.",
    gone: "Tento odkaz neplatí",
    gone_what: "Už neplatí, nebo nebyl zkopírován celý. Pokud změna vašeho telefonního čísla nebyla vaše, zavolejte svým správcům nebo na podporu.",
    trouble: "Momentálně to nejde",
    trouble_what: "Nic se nezměnilo. Zkuste to za pár minut znovu, nebo zavolejte svým správcům nebo na podporu.",
    languages: "Jazyky",
};
