"""What the pages of this domain say in Spanish."""

from crm_api.domains.sign_in.reset import CHANGED, LETTER
from crm_api.domains.sign_in.words import add_spanish

add_spanish(
    {
        "API keys that are good: {keys}. They do not depend on the password.": (
            "Claves de API que valen: {keys}. No dependen de la contraseña."
        ),
        "Back to your account": "Volver a su cuenta",
        "Change the password": "Cambiar la contraseña",
        "Code": "Código",
        "Continue": "Continuar",
        "Does nothing arrive? Ask an administrator of your organisation for a link.": (
            "¿No le llega nada? Pida un enlace a un administrador de su organización."
        ),
        "E-mail": "Correo electrónico",
        "End": "Cerrar",
        "End all other sessions": "Cerrar todas las demás sesiones",
        "End my API keys, too": "Anular también mis claves de API",
        "End the session from {address}": "Cerrar la sesión de {address}",
        "Enter the code": "Introduzca el código",
        "Forgot your password?": "¿Olvidó su contraseña?",
        "From {shortest} to {longest} characters, of any kind. Several words are good.": (
            "De {shortest} a {longest} caracteres, de cualquier tipo. Varias palabras sirven bien."
        ),
        "If there is such an account, a letter with a link is on its way to it. "
        "The link is good for {minutes} minutes.": (
            "Si existe esa cuenta, va en camino un mensaje con un enlace. El enlace vale durante {minutes} minutos."
        ),
        "Keep your recovery codes": "Guarde sus códigos de recuperación",
        "Key": "Clave",
        "Look into your mail": "Mire su correo",
        "Name": "Nombre",
        "New password": "Contraseña nueva",
        "Nothing is set up under this name.": "No hay nada configurado con este nombre.",
        "Open in an app on this device": "Abrir en una aplicación de este dispositivo",
        "Organisation": "Organización",
        "Password": "Contraseña",
        "Present password": "Contraseña actual",
        "QR code with the key below": "Código QR con la clave de abajo",
        "Remove the second factor": "Quitar el segundo factor",
        "Reset your password": "Restablecer su contraseña",
        "Scan the picture with an authenticator app, or type the key into it. Then enter the code that it shows.": (
            "Escanee la imagen con una aplicación de autenticación, o escriba en ella la clave. "
            "Después introduzca el código que muestra."
        ),
        "Second factor": "Segundo factor",
        "Send me a link": "Enviarme un enlace",
        "Sessions": "Sesiones",
        "Set up a second factor": "Configurar un segundo factor",
        "Set your password": "Establecer su contraseña",
        "Sign in": "Iniciar sesión",
        "Sign in with a password": "Iniciar sesión con contraseña",
        "Sign in with another provider": "Iniciar sesión con otro proveedor",
        "Sign in with your organisation's provider": "Iniciar sesión con el proveedor de su organización",
        "Sign in with {name}": "Iniciar sesión con {name}",
        "Sign out": "Cerrar sesión",
        "Six digits from your authenticator app, or one of your recovery codes.": (
            "Seis cifras de su aplicación de autenticación, o uno de sus códigos de recuperación."
        ),
        "The code is not one of the app now. Check the clock of the device, and enter the newest code.": (
            "El código no es de la aplicación en este momento. Revise el reloj del dispositivo e introduzca el último."
        ),
        "The code is wrong, was used before, or there were too many attempts. Wait for the next code.": (
            "El código es incorrecto, ya se usó, o hubo demasiados intentos. Espere al código siguiente."
        ),
        "The form was outdated. Go back, load the page again and send it once more.": (
            "El formulario había caducado. Vuelva atrás, cargue la página de nuevo y envíelo otra vez."
        ),
        "The provider did not say who you are, or you have no account here. Ask an administrator.": (
            "El proveedor no dijo quién es usted, o no tiene cuenta aquí. Pregunte a un administrador."
        ),
        "There were too many attempts. Wait a minute and try again.": (
            "Hubo demasiados intentos. Espere un minuto e inténtelo de nuevo."
        ),
        "The server cannot answer now. Wait a moment and try again.": (
            "El servidor no puede responder ahora. Espere un momento e inténtelo de nuevo."
        ),
        "The server did not understand the request.": "El servidor no entendió la petición.",
        "The session is ended.": "La sesión está cerrada.",
        "There is a problem": "Hay un problema",
        "This did not work": "Esto no funcionó",
        "This is not your password, or there were too many attempts. Wait some minutes before the next.": (
            "Esta no es su contraseña, o hubo demasiados intentos. Espere unos minutos antes del siguiente."
        ),
        "This link was used already, or is no longer good. Ask for another.": (
            "Este enlace ya se usó o ya no vale. Pida otro."
        ),
        "This password is easy to guess: it is common, or made from your name. Choose another.": (
            "Esta contraseña es fácil de adivinar: es común, o está hecha con su nombre. Elija otra."
        ),
        "Use at least {shortest} characters; several words are good.": (
            "Use al menos {shortest} caracteres; varias palabras sirven bien."
        ),
        "Use at most {longest} characters.": "Use como máximo {longest} caracteres.",
        "Organisation, e-mail or password is wrong. After several attempts, wait some minutes before the next: "
        "until then, even the right password is refused.": (
            "La organización, el correo o la contraseña no son correctos. Después de varios intentos, espere unos "
            "minutos antes del siguiente: hasta entonces se rechaza incluso la contraseña correcta."
        ),
        "Without a second factor a password has {alone} characters or more. Set a longer one first.": (
            "Sin segundo factor una contraseña tiene {alone} caracteres o más. Establezca antes una más larga."
        ),
        "You are signed in": "Ha iniciado sesión",
        "You are signed out.": "Ha cerrado la sesión.",
        "You have none.": "No tiene ninguno.",
        "You have one, and your organisation asks for it.": "Tiene uno, y su organización lo exige.",
        "You have one. To remove it, enter your password.": "Tiene uno. Para quitarlo, introduzca su contraseña.",
        "Your account": "Su cuenta",
        "Your new password": "Su contraseña nueva",
        "Your API keys end with the old password: {keys}.": (
            "Sus claves de API se anulan con la contraseña anterior: {keys}."
        ),
        "Your password is changed. Your other sessions are ended, and so is the access of applications. "
        "API keys that are still good: {keys}.": (
            "Su contraseña está cambiada. Sus demás sesiones están cerradas, igual que el acceso de las aplicaciones. "
            "Claves de API que siguen valiendo: {keys}."
        ),
        "Your password is set. Sign in with it.": "Su contraseña está establecida. Inicie sesión con ella.",
        "Your password was changed": "Se cambió su contraseña",
        "Your second factor is removed.": "Su segundo factor está quitado.",
        "Your second factor is set up. Each of these codes stands in for the app once. They are not shown again.": (
            "Su segundo factor está configurado. Cada uno de estos códigos sustituye una vez a la aplicación. "
            "No se muestran otra vez."
        ),
        "this one": "esta",
        CHANGED: (
            "Hola, {name}:\n\nse cambió la contraseña de su cuenta en {organisation}. Todas las demás sesiones están "
            "cerradas, y las aplicaciones a las que permitió algo tienen que preguntarle otra vez.\n\n"
            "Claves de API suyas que siguen valiendo: {keys}. No dependen de la contraseña.\n\n"
            "Si no fue usted, pida ayuda enseguida a un administrador de su organización.\n"
        ),
        LETTER: (
            "Hola, {name}:\n\nalguien, probablemente usted, pidió una contraseña nueva. Establézcala en {minutes} "
            "minutos aquí:\n\n{url}\n\nSi no fue usted, no haga nada: su contraseña sigue como está.\n"
        ),
    }
)
